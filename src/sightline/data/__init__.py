"""From data files to batches."""

from sightline.data.boxes import BoxWriting
from sightline.data.collate import Collator
from sightline.data.conversation import (
    Conversation,
    ImagePart,
    Message,
    Origin,
    Part,
    TextPart,
    VideoPart,
)
from sightline.data.encode import (
    IGNORE_INDEX,
    EncodedSample,
    Encoder,
    Measure,
    MediaLimits,
    limited,
)
from sightline.data.media import PlannedImage, PlannedVideo
from sightline.data.pixels import (
    LeanPixels,
    PatchCache,
    PixelLoader,
    ProcessorPixels,
    load_pixels,
    video_metadata,
)
from sightline.data.skeleton import chat_messages
from sightline.data.sources import read_source

__all__ = [
    "IGNORE_INDEX",
    "BoxWriting",
    "Collator",
    "Conversation",
    "EncodedSample",
    "Encoder",
    "ImagePart",
    "LeanPixels",
    "Measure",
    "MediaLimits",
    "Message",
    "Origin",
    "Part",
    "PatchCache",
    "PixelLoader",
    "PlannedImage",
    "PlannedVideo",
    "ProcessorPixels",
    "TextPart",
    "VideoPart",
    "chat_messages",
    "limited",
    "load_pixels",
    "read_source",
    "video_metadata",
]
