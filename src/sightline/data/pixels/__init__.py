"""From an encoded sample to the pixels of its media, as the model takes them."""

from sightline.data.pixels.cache import PatchCache
from sightline.data.pixels.decoding import decode_all, seen_frames, seen_image
from sightline.data.pixels.lean import LeanPixels
from sightline.data.pixels.processed import (
    PixelLoader,
    ProcessorPixels,
    load_pixels,
    video_metadata,
)

__all__ = [
    "LeanPixels",
    "PatchCache",
    "PixelLoader",
    "ProcessorPixels",
    "decode_all",
    "load_pixels",
    "seen_frames",
    "seen_image",
    "video_metadata",
]
