"""What the installed transformers does by itself, without a weight in memory.

The real classes, one layer deep, on the meta device: enough to ask a family's own code where it
places a sample and how it turns positions into angles.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForMultimodalLM

from sightline.errors import ModelError
from sightline.families import Family
from sightline.positions import PositionRule, position_rule


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFamily:
    """A family as the installed transformers knows it.

    Attributes:
        family: The record.
        config: A configuration with the family's own numbers.
        model: The class that has ``get_rope_index``; its weights are on the meta device.
        rule: The position rule that Sightline reads from the configuration.
    """

    family: Family
    config: Any
    model: Any
    rule: PositionRule

    def rotary(self) -> tuple[nn.Module, Any]:
        """The family's own rotary module with real frequencies, and the text configuration."""
        for module in self.model.modules():
            if hasattr(module, "mrope_section"):
                with torch.device("cpu"):
                    return type(module)(module.config), module.config
        raise ModelError(f"{self.family.title}: transformers has no rotary module for it.")


def reference_family(family: Family) -> ReferenceFamily:
    """The installed transformers' own code for a family.

    Args:
        family: The record.

    Raises:
        ModelError: The installed transformers does not know the family.
    """
    try:
        config = AutoConfig.for_model(family.key)
    except ValueError as error:
        raise ModelError(f"the installed transformers does not know {family.key}.") from error
    part = getattr(config, family.config.root) if family.config.root else config
    part = copy.deepcopy(part)
    _shrink(part, family)
    with torch.device("meta"):
        model = _build(part)
    owner = model if hasattr(model, "get_rope_index") else model.model
    return ReferenceFamily(family=family, config=part, model=owner, rule=position_rule(part))


def _build(config: Any) -> Any:
    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        if type(config) in auto._model_mapping:
            return auto.from_config(config)
    raise ModelError(f"the installed transformers has no model for {type(config).__name__}.")


def _shrink(config: Any, family: Family) -> None:
    """One layer of each kind: positions do not depend on the others."""
    text = config.text_config
    text.num_hidden_layers = 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[-1:]
    # Some classes' defaults do not fit their own sections; released checkpoints do.
    rotary_dim = 2 * sum(family.rotary.sections)
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    text.head_dim = head_dim = max(head_dim, rotary_dim)
    text.rope_parameters = {
        **text.rope_parameters,
        "mrope_section": list(family.rotary.sections),
        "partial_rotary_factor": rotary_dim / head_dim,
    }
    for depth in ("depth", "num_hidden_layers"):
        if hasattr(config.vision_config, depth):
            setattr(config.vision_config, depth, 1)
    if hasattr(config, "audio_config"):
        config.audio_config.encoder_layers = 1
    for name, token_id in family.config.released:
        setattr(config, name, token_id)
    # What checkpoints have, where the class's own default is another (4 in Qwen2.5-VL).
    if family.config.tokens_per_second and family.rope.tokens_per_second is not None:
        holder, _, name = family.config.tokens_per_second.rpartition(".")
        target = getattr(config, holder) if holder else config
        setattr(target, name, int(family.rope.tokens_per_second))
