"""Pixels: lean preparation beside the family's processor, one core, from the file to patches.

``python benchmarks/preparation.py [--no-videos]``: pictures are made on the spot, 1280 x 960, with
the spectrum of photographs. Those who take part take turns, and medians count. Before time is
taken, the grey levels of both are compared, every one of them. Videos are measured by
``benchmarks/video_loading.py``, which is run at the end with what else is given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg
from transformers.image_utils import load_image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sightline.config import DataConfig
from sightline.data import (
    Conversation,
    EncodedSample,
    ImagePart,
    LeanPixels,
    Message,
    Origin,
    PatchCache,
    TextPart,
)
from sightline.model import (
    load_weights,
    normalised_patches,
    open_checkpoint,
    patch_features,
    take_raw_pixels,
)
from sightline.model.tiny import make_tiny_model
from sightline.preparation import make_encoder

FAMILY = "qwen2_5_vl"
NUM_PICTURES = 24
WIDTH, HEIGHT = 1280, 960
BUDGETS = (1_003_520, 589_824, 200_704)
TURNS = 5
HIDDEN_SIZE = 1280


def make_pictures(folder: Path) -> list[Path]:
    """JPEG files with the spectrum of photographs: power falls with the square of frequency."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    across = np.fft.rfftfreq(WIDTH, 1 / WIDTH)
    down = np.fft.fftfreq(HEIGHT, 1 / HEIGHT)[:, None]
    falls = 1 / np.maximum(np.hypot(across, down), 1.0) ** 1.5
    paths = []
    for number in range(NUM_PICTURES):
        bands = []
        for _ in range(3):
            noise = rng.normal(size=falls.shape) + 1j * rng.normal(size=falls.shape)
            bands.append(np.fft.irfft2(noise * falls, s=(HEIGHT, WIDTH)))
        shared = bands[0]
        levels = np.stack([0.9 * shared + 0.1 * band for band in bands], axis=2)
        levels = 128 + 60 * levels / levels.std()
        picture = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
        paths.append(folder / f"{number}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


def samples_of(paths: list[Path], encoder: Any) -> list[EncodedSample]:
    """One question about every picture."""
    samples = []
    for number, path in enumerate(paths):
        image = ImagePart(path=path, field="image")
        asked = Message(role="user", parts=(image, TextPart(text="What?")), field="messages[0]")
        said = Message(role="assistant", parts=(TextPart(text="That."),), field="messages[1]")
        origin = Origin(file=Path("made.jsonl"), line=number + 1, index=number)
        samples.append(encoder.encode(Conversation(messages=(asked, said), origin=origin)))
    return samples


def turns_of(works: dict[str, Callable[[], object]], turns: int = TURNS) -> dict[str, float]:
    """Median seconds of each work, one after the other in every turn."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}


def refuse_unequal(raw: torch.Tensor, theirs: torch.Tensor, recipe: Any) -> None:
    """Every grey level of lean preparation is the processor's own."""
    level = min(recipe.scale)
    difference = (normalised_patches(raw, recipe, 2) - theirs).abs().max()
    assert difference < level / 1000, f"{float(difference / level)} grey levels"


def images(work: Path, source: Path, paths: list[Path]) -> None:
    """Images a second, at three budgets."""
    size = sum(path.stat().st_size for path in paths) / len(paths) / 1000
    print(f"\n{len(paths)} JPEGs of {WIDTH} x {HEIGHT}, {size:.0f} kB each, one core")
    print("images a second   decode only   lean  share   cache   processor   lean  cache")
    print("pixels seen     PIL      fast         of fast      torch    PIL     is     is")
    for budget in BUDGETS:
        data = DataConfig.model_validate({"train": "x", "images": {"max_pixels": budget}})
        checkpoint = open_checkpoint(str(source), data)
        assert checkpoint.recipes is not None
        samples = samples_of(paths, make_encoder(checkpoint))
        lean = LeanPixels(checkpoint.preprocessing, checkpoint.recipes)
        cache = PatchCache(work / f"cache-{budget}")
        cached = LeanPixels(checkpoint.preprocessing, checkpoint.recipes, cache)
        by_torch = checkpoint.processor.image_processor
        by_pillow = Qwen2VLImageProcessorPil(size=dict(by_torch.size))
        for path, sample in zip(paths, samples, strict=True):
            theirs = by_torch(images=[load_image(str(path))], return_tensors="pt")
            for loader in (lean, cached, cached):
                raw = loader(sample)["pixel_values"]
                refuse_unequal(raw, theirs["pixel_values"], checkpoint.recipes.image)

        def each(do: Callable[[Any], object], given: list[Any]) -> Callable[[], object]:
            return lambda: [do(one) for one in given]

        seconds = turns_of(
            {
                "pil": each(lambda path: load_image(str(path)).load(), paths),
                "fast": each(decoded, paths),
                "lean": each(lean, samples),
                "cache": each(cached, samples),
                "torch": each(processed_by(by_torch), paths),
                "pillow": each(processed_by(by_pillow), paths),
            }
        )
        rate = {name: len(paths) / taken for name, taken in seconds.items()}
        seen = samples[0].images[0].resized
        print(
            f"{seen[0] * seen[1]:>11,}{rate['pil']:>8.0f}{rate['fast']:>10.0f}{rate['lean']:>7.0f}"
            f"{rate['lean'] / rate['fast']:>7.0%}{rate['cache']:>8.0f}{rate['torch']:>7.1f}"
            f"{rate['pillow']:>7.1f}{rate['lean'] / rate['torch']:>6.1f}x"
            f"{rate['cache'] / rate['torch']:>6.0f}x"
        )
        if budget == BUDGETS[0]:
            raw, theirs = lean(samples[0]), by_torch(images=[load_image(str(paths[0]))])
            few = raw["pixel_values"].nbytes
            many = np.asarray(theirs["pixel_values"]).astype(np.float32).nbytes
    print(f"bytes to the device at the largest: {few:,} against {many:,}, 1/{many / few:.0f}")


def decoded(path: Path) -> np.ndarray:
    """What libjpeg-turbo takes to decode a file."""
    return decode_jpeg(path.read_bytes(), "RGB")


def processed_by(processor: Any) -> Callable[[Path], object]:
    """A file through one of transformers' processors."""
    return lambda path: processor(images=[load_image(str(path))], return_tensors="pt")


def embedding(source: Path) -> None:
    """The patch embedding at the width of the released models, forward only."""
    checkpoint = open_checkpoint(str(source))
    assert checkpoint.recipes is not None
    model: Any = load_weights(str(source), dtype=torch.float32)
    name = checkpoint.family.modules.patch_embedding
    module: Any = model.get_submodule(name)
    old = module.proj
    module.embed_dim = HIDDEN_SIZE
    module.proj = torch.nn.Conv3d(
        old.in_channels, HIDDEN_SIZE, old.kernel_size, old.stride, bias=False
    )
    model.requires_grad_(False)
    take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
    raw = torch.randint(0, 256, (4920, old.weight[0].numel() // 2), dtype=torch.uint8)
    theirs = normalised_patches(raw, checkpoint.recipes.image, 2)
    with torch.no_grad():
        given = patch_features(model, raw.float(), raw=True)
        wanted = patch_features(model, theirs, raw=False)
        difference = float((given - wanted).abs().max() / wanted.std())
        seconds = turns_of(
            {
                "convolution": lambda: patch_features(model, theirs, raw=False),
                "folded": lambda: patch_features(model, raw.float(), raw=True),
            }
        )
    print(
        f"\npatch embedding of {len(raw):,} patches, {HIDDEN_SIZE} wide: 3-D convolution "
        f"{seconds['convolution'] * 1e3:.0f} ms, folded {seconds['folded'] * 1e3:.0f} ms, "
        f"{seconds['convolution'] / seconds['folded']:.1f}x\n"
        f"largest difference {difference:.1e} of the standard deviation"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--no-videos", action="store_true", help="leave out what video_loading.py measures"
    )
    own, others = parser.parse_known_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model"
        make_tiny_model(FAMILY, source)
        paths = make_pictures(Path(folder) / "pictures")
        images(Path(folder), source, paths)
        embedding(source)
    if not own.no_videos:
        here = Path(__file__).parent / "video_loading.py"
        subprocess.run([sys.executable, str(here), *others], check=True)


if __name__ == "__main__":
    main()
