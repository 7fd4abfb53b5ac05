"""Models without weights, and plans in a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from sightline.config import TrainingConfig, TuningConfig
from sightline.families import TRAINABLE_FAMILIES
from sightline.model import open_checkpoint
from sightline.tuning import TuningPlan, resolve_plan

FROZEN = {"language": "freeze", "projector": "freeze", "vision": "freeze"}


@pytest.fixture
def meta_model(tiny_folder) -> Callable[[str], Any]:
    """A tiny model of a family on the meta device."""

    def make(family: str) -> Any:
        checkpoint = open_checkpoint(str(tiny_folder(family)))
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(checkpoint.config)

    return make


@pytest.fixture
def resolved() -> Callable[..., TuningPlan]:
    """A plan of a model from the keys of ``tuning``; towers that are not named are frozen."""

    def resolve(model: Any, family: str, **tuning: Any) -> TuningPlan:
        config = TuningConfig.model_validate(FROZEN | tuning)
        return resolve_plan(model, TRAINABLE_FAMILIES[family], config, TrainingConfig())

    return resolve
