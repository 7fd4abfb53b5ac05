"""Section ``tuning``: what trains, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from sightline.config.base import Section, key

Mode = Literal["freeze", "lora", "full"]


class LoraSettings(Section):
    """LoRA, wherever a tower is set to lora."""

    rank: int = key(16, "Rank of the factors.", unit="dimensions", gt=0)
    alpha: int = key(32, "Scale; the update is multiplied by alpha / rank.", gt=0)
    dropout: float = key(0.0, "Share of inputs dropped before the factors.", ge=0, lt=1)


class TuningConfig(Section):
    """Each tower is frozen, adapted or tuned in full; the plan is shown before a run."""

    language: Mode = key("lora", "Decoder layers.")
    projector: Mode = key(
        "full",
        "The merger, and Qwen3-VL's deepstack mergers. It lives inside the vision tower, but "
        "freezing vision does not freeze it and adapting language does not reach it.",
    )
    vision: Mode = key("freeze", "Vision tower without the projector.")
    embeddings: Mode = key("freeze", "Token embedding.")
    head: Mode = key("freeze", "Output head. LoRA is refused where it is tied to the embedding.")
    lora: LoraSettings = key(LoraSettings(), "Settings of LoRA.")

    @model_validator(mode="after")
    def _trains_something(self) -> TuningConfig:
        towers = (self.language, self.projector, self.vision, self.embeddings, self.head)
        if set(towers) == {"freeze"}:
            raise ValueError(
                "every tower is frozen, so the plan trains nothing; set language, projector or "
                "vision to lora or full"
            )
        return self
