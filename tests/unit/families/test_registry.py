"""A family is chosen by model_type alone."""

from __future__ import annotations

import pytest

from sightline.errors import ModelError
from sightline.families import FAMILIES, TRAINABLE_FAMILIES, family_of, trainable_family_of


def test_the_key_is_the_model_type() -> None:
    assert {key: family_of(key, source="x").key for key in FAMILIES} == {
        key: key for key in FAMILIES
    }
    assert set(TRAINABLE_FAMILIES) == {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
    assert family_of("qwen2_5_omni_thinker", source="x").key == "qwen2_5_omni"


def test_a_family_known_for_its_positions_alone_is_not_trained() -> None:
    with pytest.raises(ModelError) as caught:
        trainable_family_of("glm4v", source="a/folder")
    assert "a/folder: model_type 'glm4v' (GLM-4V) is known for its positions" in str(caught.value)
    assert trainable_family_of("qwen3_vl", source="x").box_space == "thousandths"


def test_an_unknown_family_names_the_known_and_the_nearest() -> None:
    with pytest.raises(ModelError) as caught:
        family_of("qwen2_5_v", source="some/Qwen2-VL-folder")
    message = str(caught.value)
    assert "some/Qwen2-VL-folder: model_type 'qwen2_5_v'" in message
    assert "Known: qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe," in message
    assert "The nearest is qwen2_5_vl." in message
