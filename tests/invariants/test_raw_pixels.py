"""A model that takes grey levels: the same features, the exact gradient, the same weights after."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sightline.errors import ModelError
from sightline.families import trainable_family_of
from sightline.geometry import PixelRecipe, PixelRecipes
from sightline.model import (
    load_weights,
    normalised_patches,
    patch_features,
    take_processed_pixels,
    take_raw_pixels,
)

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")

# Not the same for images and videos: a mix-up shows.
RECIPES = PixelRecipes(
    image=PixelRecipe(
        backend="torch",
        resample="bicubic",
        rescale_factor=1 / 255,
        mean=(0.48, 0.46, 0.41),
        std=(0.27, 0.26, 0.28),
    ),
    video=PixelRecipe(
        backend="torch",
        resample="bicubic",
        rescale_factor=1 / 255,
        mean=(0.5, 0.4, 0.3),
        std=(0.5, 0.6, 0.7),
    ),
)


class Tower:
    """A tiny model's patch embedding before and after it takes raw pixels."""

    def __init__(self, key: str, folder: Path) -> None:
        self.family = trainable_family_of(key, source="test")
        self.model: Any = load_weights(str(folder), dtype=torch.float32)
        self.plain: Any = copy.deepcopy(self.model)
        take_raw_pixels(self.model, self.family, RECIPES)
        numbers = self.embedding(self.plain).proj.weight[0].numel()
        self.widths = {"image": numbers // 2, "video": numbers}

    def embedding(self, model: Any) -> Any:
        return model.get_submodule(self.family.modules.patch_embedding)

    def patches(self, kind: str, number: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
        """Grey levels, and what the processor would have made of them."""
        shape = (number, self.widths[kind])
        raw = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(7))
        raw = raw.to(torch.uint8)
        recipe = RECIPES.image if kind == "image" else RECIPES.video
        return raw, normalised_patches(raw, recipe, 2 if kind == "image" else 1)


@pytest.fixture(params=FAMILY_KEYS)
def tower(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Tower:
    return Tower(request.param, tiny_folder(request.param))


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_same_features(tower: Tower, kind: str) -> None:
    raw, processed = tower.patches(kind)
    given = tower.embedding(tower.model)(raw.float())
    wanted = tower.embedding(tower.plain)(processed)
    assert (given - wanted).abs().max() / wanted.std() < 1e-5
    assert torch.equal(patch_features(tower.model, raw.float(), raw=True), given)
    assert torch.equal(patch_features(tower.model, processed, raw=False), wanted)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_exact_gradient(tower: Tower, kind: str) -> None:
    """In float64, where nothing but the arithmetic is left."""
    raw, _ = tower.patches(kind)
    recipe, copies = (RECIPES.image, 2) if kind == "image" else (RECIPES.video, 1)
    processed = normalised_patches(raw.double(), recipe, copies)
    gradients = []
    for model, patches in ((tower.model, raw.double()), (tower.plain, processed)):
        embedding = tower.embedding(model).double()
        features = embedding(patches)
        # Not linear in the features: a constant factor would not go unnoticed.
        (features.sin() * torch.arange(features.shape[1])).sum().backward()
        gradients.append([parameter.grad for parameter in embedding.parameters()])
    for given, wanted in zip(*gradients, strict=True):
        assert (given - wanted).abs().max() < 1e-12 * wanted.abs().max()


def test_a_step_is_seen_by_the_next_call(tower: Tower) -> None:
    """Folded weights are kept while the module is frozen, and only while it does not change."""
    raw, processed = tower.patches("image")
    tower.model.requires_grad_(False)
    before = tower.embedding(tower.model)(raw.float())
    assert torch.equal(tower.embedding(tower.model)(raw.float()), before)
    for model in (tower.model, tower.plain):
        with torch.no_grad():
            tower.embedding(model).proj.weight.mul_(1.5)
    given = tower.embedding(tower.model)(raw.float())
    wanted = tower.embedding(tower.plain)(processed)
    assert (given - wanted).abs().max() / wanted.std() < 1e-5
    assert (given - before).abs().max() > 0.01


def test_bf16_is_as_near_to_float32_as_the_processor_is(tower: Tower) -> None:
    """Grey levels are exact in bf16, normalised pixels are not."""
    raw, processed = tower.patches("image", number=256)
    raw_model, plain = tower.embedding(tower.model), tower.embedding(tower.plain)
    # Weights that bf16 holds exactly, so that only the way of the pixels differs.
    for module in (raw_model, plain):
        module.proj.weight.data = module.proj.weight.data.bfloat16().float()
    wanted = plain(processed)
    for module in (raw_model, plain):
        module.to(torch.bfloat16)
    given = raw_model(raw.to(torch.bfloat16))
    assert given.dtype == torch.bfloat16
    own = (given.float() - wanted).abs().mean()
    theirs = (plain(processed.to(torch.bfloat16)).float() - wanted).abs().mean()
    assert own <= theirs


def test_autocast_gives_what_the_convolution_gives(tower: Tower) -> None:
    raw, processed = tower.patches("image")
    with torch.autocast("cpu", torch.bfloat16):
        given = tower.embedding(tower.model)(raw.float())
        wanted = tower.embedding(tower.plain)(processed)
    assert given.dtype == wanted.dtype == torch.bfloat16
    assert (given - wanted).float().abs().max() / wanted.float().std() < 0.03


def test_nothing_of_it_is_left(tower: Tower) -> None:
    take_processed_pixels(tower.model)
    assert type(tower.embedding(tower.model)) is type(tower.embedding(tower.plain))
    assert vars(tower.embedding(tower.model)).keys() == vars(tower.embedding(tower.plain)).keys()
    given, wanted = tower.model.state_dict(), tower.plain.state_dict()
    assert list(given) == list(wanted)
    assert all(torch.equal(given[name], wanted[name]) for name in wanted)


def test_a_copy_that_peft_trains_runs_with_its_own_weights(tower: Tower) -> None:
    """PEFT copies a module that trains in full, and wraps the copy."""
    name = tower.family.modules.patch_embedding
    config = LoraConfig(target_modules=[tower.family.modules.head], modules_to_save=[name])
    adapted: Any = get_peft_model(tower.model, config)
    module: Any = next(
        module for path, module in adapted.named_modules() if path.endswith("patch_embed")
    )
    raw, processed = tower.patches("image")
    module(raw.float()).sum().backward()
    copied = module.modules_to_save["default"].proj.weight
    tower.embedding(tower.plain)(processed).sum().backward()
    wanted = tower.embedding(tower.plain).proj.weight.grad
    assert (copied.grad - wanted).abs().max() < 1e-5 * wanted.abs().max()
    with torch.no_grad():
        copied.add_(0.25)
    merged = adapted.merge_and_unload()
    take_processed_pixels(merged)
    embedding = tower.embedding(merged)
    assert type(embedding) is type(tower.embedding(tower.plain))
    assert torch.equal(embedding.proj.weight, tower.embedding(tower.plain).proj.weight + 0.25)


def test_an_adapter_around_the_convolution(tower: Tower) -> None:
    """No longer one convolution: the pixels are normalised, and the adapter runs as it is."""
    config = LoraConfig(target_modules=[f"{tower.family.modules.patch_embedding}.proj"], r=4)
    adapted = get_peft_model(tower.model, config)
    for name, parameter in adapted.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    for kind in ("image", "video"):
        raw, processed = tower.patches(kind)
        given = patch_features(adapted, raw.float(), raw=True)
        wanted = patch_features(adapted, processed, raw=False)
        assert (given - wanted).abs().max() / wanted.std() < 1e-5
        without = tower.embedding(tower.plain)(processed)
        assert (wanted - without).abs().max() > 0.01


def test_normalised_pixels_are_refused(tower: Tower) -> None:
    _, processed = tower.patches("video")
    with pytest.raises(RuntimeError, match="pixels below 0: they are normalised already"):
        tower.embedding(tower.model)(processed)


def test_patches_of_another_width_are_refused(tower: Tower) -> None:
    one, two = tower.widths["image"], tower.widths["video"]
    with pytest.raises(ModelError) as caught:
        tower.embedding(tower.model)(torch.zeros(4, one + 1))
    assert str(caught.value) == (
        f"raw patches have {one + 1} numbers; a still picture's have {one} and a video's {two}."
    )


def test_an_embedding_that_is_no_convolution_of_patches(tower: Tower) -> None:
    take_processed_pixels(tower.model)
    tower.embedding(tower.model).proj = torch.nn.Linear(4, 4)
    with pytest.raises(ModelError, match=r"Set data\.preparation to processor"):
        take_raw_pixels(tower.model, tower.family, RECIPES)
