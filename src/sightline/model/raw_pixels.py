"""Making a vision tower take grey levels: normalisation folded into the patch embedding.

A patch embedding is linear, and so is the normalisation before it. Folded together they take the
bytes of a picture as they are. A still picture is given to the embedding twice, as two frames: the
weights of both frames are added instead. The folded weights are computed from the module's own in
every call while it trains, so its gradient is the exact one, and nothing of this is in the model
when it is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sightline.errors import ModelError
from sightline.families import TrainableFamily
from sightline.geometry import PixelRecipe, PixelRecipes

_NORMALISED = "pixels below 0: they are normalised already, and the model takes grey levels"


class _TakesRawPixels:
    """Put before the class of a patch embedding; its weights stay where they are.

    A class, not a method of the instance: a copy of the module, as PEFT makes one of a module that
    trains in full, then runs with its own weights.
    """

    raw_recipes: PixelRecipes
    raw_folded: dict[int, tuple[tuple[int, int], torch.Tensor, torch.Tensor]]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Features of raw patches.

        Args:
            hidden_states: (num_patches, 3 * patch_size ** 2) still pictures, or (num_patches,
                3 * temporal_patch_size * patch_size ** 2) frames. Grey levels 0 to 255, of any
                dtype that holds them: bf16 does.

        Returns:
            features: (num_patches, hidden_size)
        """
        assert isinstance(self, nn.Module)
        # Normalised pixels here would be normalised twice, without a sound. No wait for a GPU.
        torch.ops.aten._assert_async.msg((hidden_states >= 0).all(), _NORMALISED)
        embedding: Any = self.proj
        num_frames = self._frames_of(hidden_states)
        recipe = self.raw_recipes.image if num_frames == 1 else self.raw_recipes.video
        if type(embedding) is not nn.Conv3d:
            # An adapter around it: the pixels are made as its own processor makes them.
            whole: Any = super()
            return whole.forward(_normalised(hidden_states, num_frames, embedding, recipe))
        kind = hidden_states.device.type
        wanted = embedding.weight.dtype
        # The meta device, on which a step is estimated, has none.
        has_autocast = torch.amp.is_autocast_available(kind)
        if has_autocast and torch.is_autocast_enabled(kind):
            wanted = torch.get_autocast_dtype(kind)
        # Not in bf16, whatever the model's dtype: grey levels cancel against the shift.
        with torch.autocast(kind, enabled=False) if has_autocast else nullcontext():
            weight, bias = self._folded(embedding, num_frames, recipe)
            return functional.linear(hidden_states.to(weight.dtype), weight, bias).to(wanted)

    def _frames_of(self, patches: torch.Tensor) -> int:
        embedding: Any = self.proj  # pyright: ignore[reportAttributeAccessIssue]
        base = getattr(embedding, "base_layer", embedding)
        _, channels, frames, height, width = base.weight.shape
        one = channels * height * width
        if patches.shape[-1] not in (one, one * frames):
            raise ModelError(
                f"raw patches have {patches.shape[-1]} numbers; a still picture's have {one} and "
                f"a video's {one * frames}."
            )
        return patches.shape[-1] // one

    def _folded(
        self, embedding: nn.Conv3d, num_frames: int, recipe: PixelRecipe
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias for grey levels; kept while the weights cannot change."""
        if embedding.weight.requires_grad:
            # Weights that trained in an earlier stage, or will in a later one: a fused optimizer
            # moves them without a new version, so what was kept says nothing any more.
            self.raw_folded.clear()
            return _fold(embedding, num_frames, recipe)
        told = (embedding.weight._version, embedding.weight.data_ptr())
        kept = self.raw_folded.get(num_frames)
        if kept is not None and kept[0] == told:
            return kept[1], kept[2]
        weight, bias = _fold(embedding, num_frames, recipe)
        self.raw_folded[num_frames] = (told, weight, bias)
        return weight, bias


def take_raw_pixels(model: nn.Module, family: TrainableFamily, recipes: PixelRecipes) -> None:
    """Make the vision tower of a model take raw patches, images and videos alike.

    Args:
        model: The plain model, before PEFT wraps it.
        family: Its family, which knows where the patch embedding is.
        recipes: How the processor makes floats of grey levels.

    Raises:
        ModelError: The patch embedding is not a 3-D convolution of patches.
    """
    module = model.get_submodule(family.modules.patch_embedding)
    embedding = getattr(module, "proj", None)
    if type(embedding) is not nn.Conv3d or embedding.kernel_size != embedding.stride:
        raise ModelError(
            f"{family.modules.patch_embedding} of this model is no convolution of patches: raw "
            "pixels cannot be folded into it. Set data.preparation to processor."
        )
    kind = type(module)
    module.__class__ = type(f"Raw{kind.__name__}", (_TakesRawPixels, kind), {})
    # Attributes of the instance that are no part of its state.
    object.__setattr__(module, "raw_recipes", recipes)
    object.__setattr__(module, "raw_folded", {})


def borrowed_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Each module that computes with a weight of another without calling it, with that weight.

    A patch embedding that takes raw pixels folds normalisation into the weights of its convolution.
    An engine that brings weights together when their module is called has to be told, or they are
    not there. No other module of these models does so; tests/unit/model/test_borrowed.py.

    Args:
        model: A model, whatever was done to it.

    Yields:
        The module, and one parameter.
    """
    for module in model.modules():
        if isinstance(module, _TakesRawPixels):
            for parameter in module.get_submodule("proj").parameters():
                yield module, parameter


def take_processed_pixels(model: nn.Module) -> None:
    """Undo `take_raw_pixels`, also in copies that PEFT made."""
    for module in model.modules():
        if isinstance(module, _TakesRawPixels):
            module.__class__ = type(module).__mro__[2]  # pyright: ignore[reportAttributeAccessIssue]
            del module.__dict__["raw_recipes"]
            del module.__dict__["raw_folded"]


def patch_features(model: nn.Module, patches: torch.Tensor, *, raw: bool) -> torch.Tensor:
    """Features of patches by the patch embedding of a model that takes raw pixels.

    Args:
        model: After `take_raw_pixels`.
        patches: (num_patches, numbers of a patch) in the embedding's dtype.
        raw: Whether these are grey levels, or what the processor makes.

    Returns:
        features: (num_patches, hidden_size)
    """
    module = next(one for one in model.modules() if isinstance(one, _TakesRawPixels))
    if raw:
        return module.forward(patches)
    plain: Any = super(_TakesRawPixels, module)
    return plain.forward(patches)


def normalised_patches(patches: torch.Tensor, recipe: PixelRecipe, num_copies: int) -> torch.Tensor:
    """Raw patches as the processor would have made them.

    Args:
        patches: (num_patches, 3 * num_frames * side ** 2) uint8 or float grey levels.
        recipe: How the processor makes floats of grey levels.
        num_copies: How often a frame is repeated: the temporal patch size for still pictures, 1
            for videos.

    Returns:
        pixel_values: (num_patches, 3 * num_frames * num_copies * side ** 2) float32; float64 of
            float64.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    split = patches.to(dtype).reshape(len(patches), 3, 1, -1)
    scale = torch.tensor(recipe.scale, dtype=dtype, device=patches.device)[:, None, None]
    shift = torch.tensor(recipe.shift, dtype=dtype, device=patches.device)[:, None, None]
    return (split * scale + shift).expand(-1, -1, num_copies, -1).reshape(len(patches), -1)


def _normalised(
    patches: torch.Tensor, num_frames: int, embedding: Any, recipe: PixelRecipe
) -> torch.Tensor:
    frames = embedding.base_layer.weight.shape[2]
    made = normalised_patches(patches, recipe, frames // num_frames)
    return made.to(patches.dtype)


def _fold(
    embedding: nn.Conv3d, num_frames: int, recipe: PixelRecipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (hidden_size, numbers of a patch) and bias (hidden_size,) for grey levels."""
    weight = embedding.weight.to(torch.promote_types(embedding.weight.dtype, torch.float32))
    if num_frames == 1:
        weight = weight.sum(dim=2, keepdim=True)
    like = {"dtype": weight.dtype, "device": weight.device}
    scale = torch.tensor(recipe.scale, **like)[:, None, None, None]
    shift = torch.tensor(recipe.shift, **like)
    bias = torch.einsum("oc,c->o", weight.sum(dim=(2, 3, 4)), shift)
    if embedding.bias is not None:
        bias = bias + embedding.bias.to(weight.dtype)
    return (weight * scale).flatten(1), bias
