"""Numbers about the data of a run, from the index alone and flat in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sightline.data.index import IndexedFile
from sightline.geometry import Preprocessing, resize_image

PERCENTILES = (50, 90, 95, 99, 100)
# Pictures whose tokens at a lower limit are computed; of more, evenly spread ones.
_MAX_PICTURES = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceNumbers:
    """What is in a source.

    Attributes:
        formats: Samples by shape; None for rows of no known shape.
        num_samples: Input samples.
        num_usable: Samples without a fault.
        lengths: (num_usable,) int32. Tokens of each, before anything is fitted.
        tokens: Tokens by kind: text, image, video, supervised.
        num_images: Images of usable samples.
        num_videos: Videos of usable samples.
    """

    formats: dict[str | None, int]
    num_samples: int
    num_usable: int
    lengths: np.ndarray
    tokens: dict[str, int]
    num_images: int
    num_videos: int

    def percentiles(self) -> dict[str, int]:
        """Lengths below which so many percent of the samples are; empty without samples."""
        return percentiles(self.lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Samples that say the same about the same files.

    Attributes:
        num_extra: Samples that another one repeats.
        num_tokens: Their tokens.
        examples: Places of some pairs.
    """

    num_extra: int
    num_tokens: int
    examples: tuple[tuple[str, str], ...]


def percentiles(lengths: np.ndarray) -> dict[str, int]:
    """The smallest lengths that so many percent do not exceed; empty without samples."""
    if len(lengths) == 0:
        return {}
    found = np.percentile(lengths, PERCENTILES, method="inverted_cdf")
    return {
        "max" if rank == 100 else f"p{rank}": int(n)
        for rank, n in zip(PERCENTILES, found, strict=True)
    }


def source_numbers(files: Sequence[IndexedFile]) -> SourceNumbers:
    """The numbers of the files of a source."""
    formats: Counter[str | None] = Counter()
    tokens: Counter[str] = Counter()
    lengths: list[np.ndarray] = []
    num_samples = num_images = num_videos = 0
    for table in _tables(files):
        num_samples += table.num_rows
        for item in table.column("format").value_counts().to_pylist():
            formats[item["values"]] += item["counts"]
        usable = table.filter(table.column("what").is_null())
        kinds = {
            kind: usable.column(f"num_{kind}_tokens").to_numpy()
            for kind in ("text", "image", "video", "supervised")
        }
        tokens.update({kind: int(values.sum()) for kind, values in kinds.items()})
        lengths.append((kinds["text"] + kinds["image"] + kinds["video"]).astype(np.int32))
        is_video = _media(usable).field("is_video")
        videos = int(np.count_nonzero(is_video.to_numpy(zero_copy_only=False)))
        num_videos += videos
        num_images += len(is_video) - videos
    joined = np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int32)
    return SourceNumbers(
        formats=dict(formats),
        num_samples=num_samples,
        num_usable=len(joined),
        lengths=joined,
        tokens=dict(tokens),
        num_images=num_images,
        num_videos=num_videos,
    )


def digests_of(files: Sequence[IndexedFile]) -> np.ndarray:
    """(num_usable, 2) uint64. Fingerprints of the usable samples, in order."""
    found = []
    for table in _tables(files):
        column = table.column("digest").drop_null().combine_chunks()
        if len(column):
            chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            found.extend(_as_numbers(chunk) for chunk in chunks)
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.uint64)


def duplicates(files: Sequence[IndexedFile], lengths: np.ndarray) -> Duplicates:
    """Samples of the files that repeat an earlier one.

    Args:
        files: The index, file by file.
        lengths: (num_usable,) Tokens of the usable samples of all of them.
    """
    digests = digests_of(files)
    keys = digests.view([("a", np.uint64), ("b", np.uint64)]).reshape(-1)
    _, firsts, numbers = np.unique(keys, return_index=True, return_inverse=True)
    extra = np.flatnonzero(firsts[numbers] != np.arange(len(keys)))
    pairs = [(int(firsts[numbers[index]]), int(index)) for index in extra[:3]]
    places = _places(files, {number for pair in pairs for number in pair})
    return Duplicates(
        num_extra=len(extra),
        num_tokens=int(lengths[extra].sum()),
        examples=tuple((places[one], places[other]) for one, other in pairs),
    )


def overlap(one: Sequence[IndexedFile], other: Sequence[IndexedFile]) -> int:
    """Samples of the second that stand in the first too."""
    view = [("a", np.uint64), ("b", np.uint64)]
    first, second = (digests_of(files).view(view).reshape(-1) for files in (one, other))
    return int(np.isin(second, first).sum())


def usual_image_pixels(files: Sequence[IndexedFile]) -> int:
    """Pixels that 95 % of the pictures do not exceed in their files; 0 without pictures."""
    sizes = _image_sizes(files).astype(np.int64)
    if len(sizes) == 0:
        return 0
    return int(np.percentile(sizes[:, 0] * sizes[:, 1], 95, method="inverted_cdf"))


def image_tokens_at(
    files: Sequence[IndexedFile], preprocessing: Preprocessing, max_pixels: int
) -> tuple[int, int]:
    """Tokens of the images as they are and with a lower limit, scaled up from those looked at.

    Args:
        files: The index, file by file.
        preprocessing: The run's preprocessing.
        max_pixels: The lower limit.
    """
    sizes = _image_sizes(files)
    if len(sizes) == 0:
        return 0, 0
    stride = max(1, len(sizes) // _MAX_PICTURES)
    looked_at = sizes[::stride]
    scale = len(sizes) / len(looked_at)
    patching, budget = preprocessing.image_patching, preprocessing.image_budget
    lower = type(budget)(min_pixels=min(budget.min_pixels, max_pixels), max_pixels=max_pixels)
    now = later = 0
    for height, width in looked_at.tolist():
        for chosen in (budget, lower):
            h, w = resize_image(height, width, patching, chosen)
            tokens = (h // patching.factor_pixels) * (w // patching.factor_pixels)
            if chosen is budget:
                now += tokens
            else:
                later += tokens
    return round(now * scale), round(later * scale)


def _image_sizes(files: Sequence[IndexedFile]) -> np.ndarray:
    """(num_images, 2) int32. Height and width of the images of usable samples."""
    sizes = []
    for table in _tables(files):
        media = _media(table)
        images = media.filter(pc.call_function("invert", [media.field("is_video")]))
        if len(images):
            columns = [images.field(name).to_numpy() for name in ("height", "width")]
            sizes.append(np.stack(columns, axis=1))
    return np.concatenate(sizes) if sizes else np.empty((0, 2), dtype=np.int32)


def _tables(files: Sequence[IndexedFile]) -> Iterator[pa.Table]:
    for file in files:
        yield from file.tables()


def _media(table: pa.Table) -> Any:
    """The media of all rows, one after the other, as a struct array."""
    column = table.column("media").combine_chunks()
    flat = column.flatten()
    return pa.concat_arrays(flat.chunks) if isinstance(flat, pa.ChunkedArray) else flat


def _as_numbers(array: pa.Array) -> np.ndarray:
    buffer = array.buffers()[1]
    start = array.offset * 16
    return np.frombuffer(buffer, dtype=np.uint64, count=len(array) * 2, offset=start).reshape(-1, 2)


def _places(files: Sequence[IndexedFile], wanted: set[int]) -> dict[int, str]:
    """Where usable samples stand, by their number among all of them."""
    found: dict[int, str] = {}
    number = 0
    for file in files:
        for table in file.tables():
            rows = np.flatnonzero(~table.column("what").is_valid().to_numpy())
            for place in sorted(n for n in wanted if number <= n < number + len(rows)):
                [row] = (
                    table.slice(int(rows[place - number]), 1)
                    .select(["line", "row", "place", "file"])
                    .to_pylist()
                )
                name = row["file"] or str(file.reader.rows.file)
                where = f":{row['line']}" if row["line"] is not None else f" row {row['row']}"
                found[place] = f"{name}{where}"
            number += len(rows)
            if len(found) == len(wanted):
                return found
    return found
