"""Weights that are a pickle are refused: loading one can run whatever its author wrote into it."""

from __future__ import annotations

from pathlib import Path

from sightline.errors import ModelError

# As transformers and PEFT look for them, and as people name them.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def refuse_pickles(folder: str | Path) -> None:
    """Refuse a local folder whose weights are a pickle and nothing else.

    One that has safetensors beside it is taken: those are what is read.

    Args:
        folder: A folder of a model or an adapter. A hub id is left alone; of such a repository
            only safetensors are fetched.

    Raises:
        ModelError: Names the file, and how it is converted.
    """
    place = Path(folder)
    if not place.is_dir() or any(place.glob("*.safetensors")):
        return
    pickles = sorted(path for pattern in _PICKLES for path in place.glob(pattern))
    # transformers keeps the settings of a training in such a file.
    weights = [path for path in pickles if path.name != "training_args.bin"]
    if weights:
        raise ModelError(
            f"{weights[0]}: these weights are a pickle, which can run code when it is loaded; "
            "there is no *.safetensors beside it, and nothing else is read.\n"
            "Save the model anew with save_pretrained of transformers 5 or PEFT, where you trust "
            "the file, and name that folder."
        )
