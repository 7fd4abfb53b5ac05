"""A family is chosen by model_type alone."""

from __future__ import annotations

import pytest

from sightline.errors import ModelError
from sightline.families import FAMILIES, family_of


def test_the_key_is_the_model_type() -> None:
    assert {key: family_of(key, source="x").key for key in FAMILIES} == {
        key: key for key in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    }


def test_an_unknown_family_names_the_known_and_the_nearest() -> None:
    with pytest.raises(ModelError) as caught:
        family_of("qwen2_5_v", source="some/Qwen2-VL-folder")
    message = str(caught.value)
    assert "some/Qwen2-VL-folder: model_type 'qwen2_5_v'" in message
    assert "Known: qwen2_vl, qwen2_5_vl, qwen3_vl. The nearest is qwen2_5_vl." in message
