"""What other tools show a model of the pictures of docs/pictures.md: their own functions, run.

``python tests/media_corpus.py FOLDER`` writes the pictures. Then, in an environment of each tool,
``python pictures.py TOOL FOLDER``, TOOL being ``transformers``, ``llamafactory``, ``ms_swift`` or
``qwen_vl_utils``, prints one line a file: height x width and the colours of the six squares, or
what was raised.
"""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL

LIMITS = {"image_max_pixels": 10**7, "image_min_pixels": 1}


def shown(tool: str, path: str) -> Any:
    """The picture that the tool hands to the model's own processor."""
    if tool == "transformers":
        from transformers.image_utils import load_image

        return load_image(path)
    if tool == "llamafactory":
        from llamafactory.data.mm_plugin import get_mm_plugin

        plugin = get_mm_plugin("qwen2_vl", image_token="<|image_pad|>")
        return plugin._regularize_images([path], **LIMITS)["images"][0]
    from qwen_vl_utils import fetch_image

    if tool == "ms_swift":
        from swift.template import Template

        # As its templates for Qwen2-VL and its successors do.
        return fetch_image({"image": Template._load_image(path, True)})
    return fetch_image({"image": path})


def described(image: Any) -> str:
    """Size, and the colour of the middle of each of six squares."""
    values = np.asarray(image)
    height, width = values.shape[:2]
    rows, columns = (2, 3) if width >= height else (3, 2)
    colours = [
        tuple(
            values[(2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)]
            .reshape(-1)
            .tolist()
        )
        for row in range(rows)
        for column in range(columns)
    ]
    return f"{image.mode} {height} x {width} {colours}"


def main(tool: str, folder: str) -> None:
    """One line a picture."""
    warnings.simplefilter("ignore")
    package = {"ms_swift": "ms-swift", "qwen_vl_utils": "qwen-vl-utils"}.get(tool, tool)
    print(f"{package} {version(package)}, Pillow {PIL.__version__}")
    for path in sorted(Path(folder).iterdir()):
        try:
            told = described(shown(tool, str(path)))
        except Exception as error:
            told = f"{type(error).__name__}: {str(error)[:150]}"
        print(f"{path.stem}: {told}")


if __name__ == "__main__":
    main(*sys.argv[1:])
