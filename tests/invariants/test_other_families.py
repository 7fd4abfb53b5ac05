"""Models of families that are known for their positions alone follow the engine too.

Small random models of the real classes, without a processor: token ids and pixels are made up.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from sightline.errors import LayoutError
from sightline.families import FAMILIES
from sightline.model import follow_engine, reference_family
from sightline.positions import place_batch, position_rule

IMAGE, VIDEO, OPEN, CLOSE, VIDEO_OPEN, VIDEO_CLOSE = range(290, 296)
GRID = (1, 4, 8)
TOLERANCE = 1e-4
FAMILY_KEYS = ("qwen3_vl_moe", "qwen3_5", "glm4v", "glm4v_moe", "paddleocr_vl")
# Half a million weights at most, where the class has the field.
TEXT = {
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "vocab_size": 300,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 64,
    "num_heads": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "deepstack_visual_indexes": [0],
}
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": OPEN,
    "vision_end_token_id": CLOSE,
    "image_start_token_id": OPEN,
    "image_end_token_id": CLOSE,
    "video_start_token_id": VIDEO_OPEN,
    "video_end_token_id": VIDEO_CLOSE,
}


# In the place of its one layer of full attention.
WITH_LINEAR_ATTENTION = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


def _model(key: str, **text: Any) -> Any:
    config: Any = reference_family(FAMILIES[key]).config
    assert type(config) is type(AutoConfig.for_model(key))
    for name, value in text.items():
        assert hasattr(config.text_config, name), name
        setattr(config.text_config, name, value)
    head_dim = config.text_config.head_dim
    sizes = TEXT | {"hidden_size": 2 * head_dim, "num_attention_heads": 2}
    for part, fields in ((config.text_config, sizes), (config.vision_config, VISION)):
        for name, value in fields.items():
            if getattr(part, name, None) is not None or name == "pad_token_id":
                setattr(part, name, value)
    if hasattr(config.vision_config, "out_hidden_size"):
        config.vision_config.out_hidden_size = 2 * head_dim
    for name, value in TOKENS.items():
        if hasattr(config, name):
            setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
        for weight in model.parameters():
            if weight.ndim > 1:  # a position fault must move whole logits
                torch.nn.init.normal_(weight, std=0.1)
    return model


def _call(model: Any) -> dict[str, torch.Tensor]:
    vision = model.config.vision_config
    num_patches = GRID[0] * GRID[1] * GRID[2]
    generator = torch.Generator().manual_seed(1)
    if hasattr(vision, "temporal_patch_size"):
        shape: tuple[int, ...] = (3 * vision.temporal_patch_size * vision.patch_size**2,)
    else:
        shape = (3, vision.patch_size, vision.patch_size)
    ids = torch.tensor([[5, 6, OPEN, *[IMAGE] * (num_patches // 4), CLOSE, 7, 8, 9]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(num_patches, *shape, generator=generator),
        "image_grid_thw": torch.tensor([GRID]),
    }


def _steps(model: Any, call: dict[str, torch.Tensor], **changes: Any) -> torch.Tensor:
    with torch.no_grad():
        made = model.generate(
            **(call | changes),
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(made.logits)


@pytest.mark.parametrize("key", FAMILY_KEYS)
def test_generate_and_forward_follow_the_engine(key: str) -> None:
    model = _model(key)
    call, rule = _call(model), position_rule(model.config)
    placed = place_batch(call["input_ids"], rule, image_grid_thw=call["image_grid_thw"])
    explicit = _steps(model, call, position_ids=placed.model_position_ids)
    # Without: 1-D positions, because nobody passed mm_token_type_ids.
    assert (_steps(model, call) - explicit).abs().max() > 100 * TOLERANCE
    follow_engine(model, rule)
    torch.testing.assert_close(_steps(model, call), explicit, rtol=0, atol=TOLERANCE)
    with torch.no_grad():
        whole = model(**call).logits[0, -1]
    torch.testing.assert_close(whole, explicit[0, 0], rtol=0, atol=TOLERANCE)
    with pytest.raises(LayoutError, match="1-D positions on 8 vision tokens"):
        model(**call, position_ids=torch.arange(15).expand(3, 1, -1))


@torch.no_grad()
def test_d12_a_packed_row_of_a_model_with_linear_attention() -> None:
    """It leaks even where everything is given that keeps samples of other families apart."""
    model = _model("qwen3_5", **WITH_LINEAR_ATTENTION)
    ids = torch.randint(10, 200, (1, 12), generator=torch.Generator().manual_seed(2))
    place = torch.cat([torch.arange(5), torch.arange(7)]).expand(4, 1, 12)
    call = {"input_ids": ids, "position_ids": place, "use_cache": False}
    second = {"input_ids": ids[:, 5:], "position_ids": place[:, :, 5:], "use_cache": False}
    leaks = model(**call).logits[:, 5:] - model(**second).logits
    assert leaks.abs().max() > 100 * TOLERANCE, "mended upstream: the refusal can go"
    follow_engine(model, position_rule(model.config))
    with pytest.raises(LayoutError, match="2 samples, which would see each other: layers of lin"):
        model(**call)
    model(**second)
