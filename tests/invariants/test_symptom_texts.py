"""Messages of docs/symptoms.md: each is what the installed stack says, word by word.

People search for these words. Where a test fails, a newer release says something else, and the page
wants its new words beside the old ones.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "symptoms.md"
LAST_TOKENS = 6  # what a cut takes: the end of the prompt and a piece of the picture


class Plain:
    """A tiny model and its processor, by transformers alone, with one question about a picture."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
        grey = np.full((112, 112, 3), 90, dtype=np.uint8)
        self.picture = Image.fromarray(grey)
        self.inputs = dict(self.asked([{"type": "image", "image": self.picture}]))
        self.image_token = int(self.model.config.image_token_id)

    def asked(self, parts: list[dict[str, Any]], **options: Any) -> Any:
        words = [*parts, {"type": "text", "text": "What is it?"}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": words}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            **options,
        )

    def cut(self) -> dict[str, Any]:
        """The question cut through its picture, as a limit on token ids does."""
        places = (self.inputs["input_ids"][0] == self.image_token).nonzero()
        end = int(places[-1]) - LAST_TOKENS
        per_token = ("input_ids", "attention_mask", "mm_token_type_ids")
        return {
            name: value[:, :end] if name in per_token else value
            for name, value in self.inputs.items()
        }


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def plain(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Plain:
    return Plain(tiny_folder(request.param))


def _shown(words: str) -> str:
    """A message with its numbers taken out, if the page shows it so."""
    without = re.compile(r"\d+(?:\.\d+)?")
    text = without.sub("N", words)
    shown = without.sub("N", PAGE.read_text("utf-8"))
    assert text in shown, f"docs/symptoms.md does not show: {words}"
    return text


def test_a_cut_through_a_picture(plain: Plain) -> None:
    places = plain.model.model.get_rope_index
    cut = plain.cut()
    by_hand = {name: value for name, value in cut.items() if not name.startswith("pixel")}
    with pytest.raises(RuntimeError, match="shape mismatch: value tensor") as shape:
        places(**by_hand)
    _shown(str(shape.value))
    # Given positions, the call comes as far as the features.
    positions = torch.arange(cut["input_ids"].shape[1]).expand(3, 1, -1)
    with pytest.raises(ValueError, match="do not match") as count:
        plain.model(**cut, position_ids=positions)
    _shown(str(count.value))


def test_a_processor_that_truncates(plain: Plain) -> None:
    length = plain.cut()["input_ids"].shape[1]
    picture = [{"type": "image", "image": plain.picture}]
    with pytest.raises(ValueError, match="token count between text") as error:
        plain.asked(picture, processor_kwargs={"truncation": True, "max_length": length})
    _shown(str(error.value).split(". Likely")[0])


def test_a_narrow_picture(plain: Plain) -> None:
    narrow = Image.fromarray(np.full((2, 402, 3), 90, dtype=np.uint8))
    with pytest.raises(ValueError, match="aspect ratio") as error:
        plain.asked([{"type": "image", "image": narrow}])
    _shown(str(error.value))


def test_token_types_that_are_left_out(plain: Plain) -> None:
    without = {k: v for k, v in plain.inputs.items() if k != "mm_token_type_ids"}
    if plain.model.config.model_type == "qwen2_5_vl":
        plain.model(**without)  # the only one that says nothing: 1-D positions
        return
    with pytest.raises(ValueError, match="mm_token_type_ids") as error:
        plain.model(**without)
    _shown(str(error.value).split(" Please pass")[0])


def test_more_placeholders_than_pictures(plain: Plain) -> None:
    twice = {
        name: torch.cat([plain.inputs[name]] * 2, dim=1)
        for name in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    with pytest.raises(StopIteration):
        plain.model.model.get_rope_index(**twice, image_grid_thw=plain.inputs["image_grid_thw"])


def test_a_batch_without_labels(plain: Plain, tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer = Trainer(model=plain.model, args=arguments)
    with pytest.raises(ValueError, match="did not return a loss") as error:
        trainer.compute_loss(plain.model, dict(plain.inputs))
    _shown(str(error.value).split(", only")[0])


def test_everything_frozen(plain: Plain) -> None:
    plain.model.requires_grad_(False)
    loss = plain.model(**plain.inputs, labels=plain.inputs["input_ids"]).loss
    with pytest.raises(RuntimeError, match="does not require grad") as error:
        loss.backward()
    plain.model.requires_grad_(True)
    _shown(str(error.value))


def test_padding_on_the_right(plain: Plain, caplog: pytest.LogCaptureFixture) -> None:
    two = {name: torch.cat([value, value]) for name, value in plain.inputs.items()}
    columns = {"input_ids": 7, "attention_mask": 0, "mm_token_type_ids": 0}
    for name, filled in columns.items():
        two[name] = torch.nn.functional.pad(two[name], (0, 2), value=filled)
    caplog.set_level(logging.WARNING, logger="transformers")
    logger = logging.getLogger("transformers.generation.utils")
    logger.addHandler(caplog.handler)
    try:
        plain.model.generate(**two, max_new_tokens=1, do_sample=False, pad_token_id=7)
    finally:
        logger.removeHandler(caplog.handler)
    [said] = {text for text in caplog.messages if "right-padding" in text}
    _shown(said.split(" For correct")[0])
