"""The model, and the video limits whose unit depends on its family."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sightline.errors import ConfigError
from sightline.families import TrainableFamily, trainable_family_of
from sightline.interop.given_values import as_text
from sightline.interop.imported import THEIR_DEFAULT, Verdict
from sightline.interop.ledger import Ledger


def carry_model(ledger: Ledger, key: str) -> TrainableFamily | None:
    """Carry the model over.

    Returns:
        Its family, where it can be told.

    Raises:
        ConfigError: There is none.
        ModelError: It is a folder of a family that Sightline does not train.
    """
    model = ledger.take(key, as_text)
    if model is None:
        raise ledger.error(key, "the key is missing.", "Name the model that is fine-tuned.")
    if model.startswith("tiny:"):
        ledger.write(key, model, "model", model, "carried", "")
        return trainable_family_of(model.removeprefix("tiny:"), source=model)
    folder = ledger.found(model)
    if folder.is_dir():
        family, result = family_of_model(model, folder), ledger.path(folder)
        # A folder beside run.yaml must not read as a hub id on a machine that lacks it.
        result = result if result.startswith((".", "/")) else f"./{result}"
    else:
        family, result = family_of_model(model, None), model
    note = "" if family else "Whether its family can be trained is seen when the run loads it."
    ledger.write(key, model, "model", result, "carried", note)
    return family


def family_of_model(model: str, folder: Path | None) -> TrainableFamily | None:
    """The family of a model; None where only its download would tell.

    Args:
        model: What the file names.
        folder: Its folder, where it is one.

    Raises:
        ModelError: The folder holds a model that Sightline does not train.
    """
    if folder is None:
        # A hub id does not prove a family: this only chooses the words of a note and a unit.
        plain = re.sub(r"[^a-z0-9]", "", model.lower())
        named = {"qwen3vl": "qwen3_vl", "qwen25vl": "qwen2_5_vl", "qwen2vl": "qwen2_vl"}
        key = next((key for name, key in named.items() if name in plain), None)
        return None if key is None else trainable_family_of(key, source=model)
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: config.json of the model cannot be read: {error}.\nName a model folder."
        ) from error
    model_type = content.get("model_type") if isinstance(content, dict) else None
    return trainable_family_of(str(model_type), source=str(folder))


def carry_video_pixels(
    ledger: Ledger,
    key: str,
    target: str,
    pixels: int,
    family: TrainableFamily | None,
    frames: int | None,
    *,
    is_default: bool = False,
) -> None:
    """Carry a pixel limit of one video frame over.

    Args:
        ledger: What is filled.
        key: The other tool's key.
        target: ``data.videos.min_pixels`` or ``max_pixels``.
        pixels: The limit, of one frame.
        family: The model's family.
        frames: Most frames of a video, where the file bounds them.
        is_default: Whether the limit is the other tool's default.
    """
    if family is None or family.video_budget == "per_frame":
        note = "Theirs is always for one frame; here, with Qwen3-VL, for all frames together."
        if is_default:
            ledger.write_default(key, pixels, target, pixels, "" if family else note)
        else:
            verdict: Verdict = "carried" if family else "differs"
            ledger.write(key, pixels, target, pixels, verdict, "" if family else note)
    elif frames is not None and target.endswith("max_pixels"):
        note = f"Theirs is for one frame; {family.title}'s holds for all, so times {frames} frames."
        if is_default:
            ledger.write_default(key, pixels, target, pixels * frames, note)
        else:
            ledger.write(key, pixels, target, pixels * frames, "differs", note)
    else:
        said = f"{THEIR_DEFAULT}; " if is_default else ""
        note = f"for one frame there, for all frames together with {family.title} here. Set"
        ledger.none(key, pixels, f"{said}{note} {target} yourself.")
