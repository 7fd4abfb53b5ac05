"""What Sightline knows of one model family, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TemporalRule = Literal["grid_index", "seconds", "frame_per_span"]
BoxSpace = Literal["thousandths", "resized_pixels"]
FrameRule = Literal["arange_truncated", "linspace_rounded"]
VideoBudget = Literal["per_frame", "whole_video"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The special tokens that structure a conversation, as text.

    Attributes:
        turn_start: Opens a turn; the role follows.
        turn_end: Closes a turn; the last thing an answer must learn.
        end_of_text: Padding, and the second stop token.
        vision_start: Opens a vision span.
        vision_end: Closes a vision span.
        image_pad: Stands for one merged image patch.
        video_pad: Stands for one merged video patch.
    """

    turn_start: str = "<|im_start|>"
    turn_end: str = "<|im_end|>"
    end_of_text: str = "<|endoftext|>"
    vision_start: str = "<|vision_start|>"
    vision_end: str = "<|vision_end|>"
    image_pad: str = "<|image_pad|>"
    video_pad: str = "<|video_pad|>"

    def structural(self) -> tuple[str, ...]:
        """Tokens that data must not contain as text, because they would become control tokens."""
        return (
            self.turn_start,
            self.turn_end,
            self.end_of_text,
            self.vision_start,
            self.vision_end,
            self.image_pad,
            self.video_pad,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeLayout:
    """How text, images and videos take up positions.

    Attributes:
        temporal_rule: ``grid_index``: the temporal axis counts grids (Qwen2-VL). ``seconds``: it
            counts seconds times ``tokens_per_second``, in float32, truncated (Qwen2.5-VL).
            ``frame_per_span``: every temporal grid of a video is a span of its own, with its
            time written as text before it (Qwen3-VL).
        who_agrees: Who computes the same positions, for messages.
    """

    temporal_rule: TemporalRule
    who_agrees: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Modules:
    """Where the towers are, as module paths inside the conditional-generation model.

    Attributes:
        vision: The vision tower, projector included.
        vision_blocks: The list of vision blocks.
        projectors: What turns vision features into language features. These modules live inside
            ``vision``: freezing the tower by its name would freeze them too.
        language: The language model without its head.
        language_blocks: The list of decoder layers.
        embeddings: The token embedding.
        head: The output head.
        vision_lora: Linear layers that LoRA adapts, relative to one vision block.
        projector_lora: Linear layers that LoRA adapts, relative to one projector.
        language_lora: Linear layers that LoRA adapts, relative to one decoder layer.
    """

    vision: str
    vision_blocks: str
    projectors: tuple[str, ...]
    language: str
    language_blocks: str
    embeddings: str
    head: str
    vision_lora: tuple[str, ...]
    projector_lora: tuple[str, ...]
    language_lora: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One family of M-RoPE models.

    Attributes:
        key: Sightline's name, equal to the checkpoint's ``config.model_type``.
        title: The name people use.
        tokens: Special tokens.
        rope: Position rule.
        modules: Module paths.
        box_space: Space in which the family writes boxes.
        frame_rule: How the family's processor picks frames.
        video_budget: Whether the video processor's pixel limits hold for one frame or for the
            whole video.
    """

    key: str
    title: str
    tokens: Tokens
    rope: RopeLayout
    modules: Modules
    box_space: BoxSpace
    frame_rule: FrameRule
    video_budget: VideoBudget
