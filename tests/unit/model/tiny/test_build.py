"""Tiny models: whole, loadable by anyone, and the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

from sightline.errors import ModelError
from sightline.model.tiny import TINY_FAMILIES, make_tiny_model

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
family = pytest.mark.parametrize("family", FAMILY_KEYS)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _inputs(processor: Any) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 84, 112, 3), dtype=np.uint8)
    metadata = VideoMetadata(total_num_frames=8, fps=2.0, frames_indices=list(range(8)))
    content = [{"type": "image"}, {"type": "text", "text": " then "}, {"type": "video"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return processor(
        text=[text],
        images=[Image.fromarray(pixels[0])],
        videos=[pixels],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
    )


def test_the_three_families() -> None:
    assert TINY_FAMILIES == FAMILY_KEYS


@family
def test_auto_classes_load_it_and_it_sees_pictures_and_videos(
    family: str, tiny_folder: Callable[[str], Path]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny_folder(family))
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        tiny_folder(family), output_loading_info=True
    )
    model, info = loaded
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    inputs = _inputs(processor)
    with torch.no_grad():
        logits = model.eval()(**inputs).logits
        for pixels in ("pixel_values", "pixel_values_videos"):
            other = model(**{**inputs, pixels: inputs[pixels] + 1.0}).logits
            assert (other - logits).abs().max() > 0.1, pixels
    assert logits.shape == (1, inputs["input_ids"].shape[1], model.config.text_config.vocab_size)
    assert torch.isfinite(logits).all()


@family
def test_the_same_seed_gives_the_same_bytes(family: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = _bytes(make_tiny_model(family, tmp_path / "one", seed=3))
    torch.manual_seed(2)
    assert _bytes(make_tiny_model(family, tmp_path / "two", seed=3)) == one
    other = _bytes(make_tiny_model(family, tmp_path / "three", seed=4))
    assert {name for name in one if other[name] != one[name]} == {"model.safetensors"}


def test_the_callers_random_numbers_do_not_move(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    make_tiny_model("qwen2_vl", tmp_path / "model")
    assert torch.rand(3).tolist() == wanted.tolist()


@family
def test_weights_are_float32_and_wide(family: str, tiny_folder: Callable[[str], Path]) -> None:
    for name, tensor in _weights(tiny_folder(family)).items():
        assert tensor.dtype == torch.float32, name
        if tensor.dim() >= 2:
            assert tensor.std().item() == pytest.approx(0.3, abs=0.02), name
        elif name.endswith(".bias"):
            assert not tensor.any(), name
        else:
            assert (tensor == 1).all(), name


@family
def test_tying_shares_head_and_embedding(
    family: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = make_tiny_model(family, tmp_path / "tied", tied=True)
    tied: Any = AutoModelForImageTextToText.from_pretrained(folder)
    assert tied.config.tie_word_embeddings is True
    assert tied.lm_head.weight.data_ptr() == tied.get_input_embeddings().weight.data_ptr()
    assert "lm_head.weight" not in _weights(folder)
    assert "lm_head.weight" in _weights(tiny_folder(family))


def test_a_corpus_reaches_the_tokenizer(tmp_path: Path) -> None:
    folder = make_tiny_model("qwen2_vl", tmp_path / "model", corpus=["zebra zebra"] * 4)
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.tokenizer.tokenize("zebra") == ["zebra"]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("qwen2.5_vl", "Did you mean qwen2_5_vl?"), ("qwen3-vl", "Did you mean qwen3_vl?")],
)
def test_an_unknown_family_is_refused_with_a_suggestion(
    asked: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        make_tiny_model(asked, tmp_path / "model")
    assert str(caught.value) == f"{asked!r}: tiny families are {', '.join(FAMILY_KEYS)}. {hint}"
    assert list(tmp_path.iterdir()) == []


def test_a_family_like_no_other_gets_no_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"qwen3_vl\.$"):
        make_tiny_model("zzz", tmp_path / "model")


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    taken = tmp_path / "model"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ModelError, match="not empty"):
        make_tiny_model("qwen2_vl", taken)
    assert _bytes(taken) == {"mine.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_in_its_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine", encoding="utf-8")
    with pytest.raises(ModelError):
        make_tiny_model("qwen2_vl", tmp_path / "model")
    assert (tmp_path / "model").read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "deep" / "model").mkdir(parents=True)
    folder = make_tiny_model("qwen2_vl", tmp_path / "deep" / "model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_what_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transformers.ProcessorMixin.save_pretrained", broken)
    with pytest.raises(KeyboardInterrupt):
        make_tiny_model("qwen2_vl", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
