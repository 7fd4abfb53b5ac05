"""What Sightline knows of one model family, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

TemporalRule = Literal["grid_index", "seconds", "frame_per_span"]
AxisRule = Literal["sectioned", "interleaved", "height_width_time"]
PairRule = Literal["halves", "neighbours"]
BoxSpace = Literal["thousandths", "resized_pixels"]
BoxText = Literal["tokens", "list"]
FrameRule = Literal["arange_truncated", "linspace_rounded"]
VideoBudget = Literal["per_frame", "whole_video"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeLayout:
    """How text, images and videos take up positions.

    Attributes:
        temporal_rule: ``grid_index``: the temporal axis counts grids (Qwen2-VL). ``seconds``: it
            counts seconds times ``tokens_per_second``, in float32, truncated (Qwen2.5-VL).
            ``frame_per_span``: every temporal grid of a video is a span of its own, with its
            time written as text before it (Qwen3-VL).
        who_agrees: Who computes the same positions, for messages.
        spatial_merge_size: Patches per side that become one token, in released checkpoints.
        tokens_per_second: Positions a second of video takes, in released checkpoints; None
            where time is not scaled.
        temporal_merge_size: Temporal grids of a video that become one, in released checkpoints.
        takes_videos: Whether the family knows videos at all.
        keeps_fractions: The family's own code does not truncate seconds: a fraction of a
            position would be left, which int64 cannot hold, so such a video is refused.
        frames_are_images: Frames of a video are written with the image placeholder, between the
            tokens that open and close a video.
    """

    temporal_rule: TemporalRule
    who_agrees: str
    spatial_merge_size: int = 2
    tokens_per_second: float | None = None
    temporal_merge_size: int = 1
    takes_videos: bool = True
    keeps_fractions: bool = False
    frames_are_images: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryLayout:
    """Which rotary frequency turns with which axis, and which two dimensions turn together.

    Attributes:
        axes: ``sectioned``: blocks of frequencies for time, height, width in turn.
            ``interleaved``: time, height, width alternate while sections last, then time.
            ``height_width_time``: height and width alternate, time has the slowest ones.
        pairs: ``halves``: dimension i turns with i + rotary_dim / 2. ``neighbours``: 2i with
            2i + 1.
        sections: Pairs for each axis, where a configuration names none.
    """

    axes: AxisRule
    pairs: PairRule
    sections: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFields:
    """Where a checkpoint's configuration keeps what the position engine needs.

    Attributes:
        root: Path of the part that holds ``vision_config`` and the token ids; empty for the
            configuration itself.
        tokens_per_second: Path below ``root``, for the ``seconds`` rule.
        temporal_merge_size: Path below ``root``, where videos are merged in time.
        released: Token ids that released checkpoints carry and transformers' own class has no
            default for.
    """

    root: str = ""
    tokens_per_second: str | None = None
    temporal_merge_size: str | None = None
    released: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One family of M-RoPE models, as far as positions go.

    Attributes:
        key: Sightline's name, equal to the checkpoint's ``config.model_type``.
        title: The name people use.
        rope: Position rule.
        rotary: How positions become angles.
        config: Where the checkpoint's configuration keeps the numbers.
        other_model_types: Further ``model_type`` that mean the same, of a part saved alone.
    """

    key: str
    title: str
    rope: RopeLayout
    rotary: RotaryLayout
    config: ConfigFields = field(default_factory=ConfigFields)
    other_model_types: tuple[str, ...] = ()


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
class Modules:
    """Where the towers are, as module paths inside the conditional-generation model.

    Attributes:
        vision: The vision tower, projector included.
        patch_embedding: What turns pixels into features, inside ``vision``; its convolution is
            called ``proj``.
        vision_blocks: The list of vision blocks.
        projectors: What turns vision features into language features. These modules live inside
            ``vision``: freezing the tower by its name would freeze them too. The merger first,
            then the deepstack mergers.
        language: The language model without its head.
        language_blocks: The list of decoder layers.
        embeddings: The token embedding.
        head: The output head.
        attention: What a module of attention is called inside a block.
        deepstack_blocks: Path in the configuration of the vision blocks that the deepstack
            mergers read, in the mergers' order; None where there are none.
    """

    vision: str
    patch_embedding: str
    vision_blocks: str
    projectors: tuple[str, ...]
    language: str
    language_blocks: str
    embeddings: str
    head: str
    attention: tuple[str, ...] = ("attn", "self_attn")
    deepstack_blocks: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MappedFamily(Family):
    """A family whose towers are known: its models can be drawn, and plans laid on them.

    Attributes:
        modules: Module paths.
    """

    modules: Modules


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainableFamily(MappedFamily):
    """A family that ``sightline train`` fine-tunes and verifies.

    Attributes:
        tokens: Special tokens.
        box_space: Space in which the family writes boxes.
        box_text: Whether a box outside JSON is written with the family's box tokens or as a list.
        frame_rule: How the family's processor picks frames.
        video_budget: Whether the video processor's pixel limits hold for one frame or for the
            whole video.
    """

    tokens: Tokens
    box_space: BoxSpace
    box_text: BoxText
    frame_rule: FrameRule
    video_budget: VideoBudget
