"""Compiled blocks compute what they did. The backend that compiles nothing shows the wiring."""

from __future__ import annotations

from typing import Any

import torch

from sightline.families import FAMILIES
from sightline.model import attend_by_segments, compile_blocks, load_weights


def test_compiled_blocks_compute_what_they_did(tiny_folder) -> None:
    family = FAMILIES["qwen2_5_vl"]
    model: Any = load_weights(str(tiny_folder(family.key)), dtype=torch.float32)
    attend_by_segments(model, family)
    ids, place = torch.randint(10, 300, (1, 9)), torch.arange(9).expand(4, 1, 9)
    names = set(model.state_dict())
    before = model(input_ids=ids, position_ids=place, use_cache=False).logits
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    blocks = model.config.text_config.num_hidden_layers + model.config.vision_config.depth
    assert compile_blocks(model, family, backend="eager") == blocks
    after = model(input_ids=ids, position_ids=place, use_cache=False).logits
    torch.testing.assert_close(after, before)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert set(model.state_dict()) == names
    torch._dynamo.reset()
