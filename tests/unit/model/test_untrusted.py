"""Checkpoints of strangers: no pickle is loaded, and no code of theirs is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.errors import ModelError
from sightline.model import load_adapter, load_weights, open_checkpoint, saved_tensors


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return _spring, (str(self._mark), "sprung")


def _spring(mark: str, text: str) -> int:
    return Path(mark).write_text(text)


@pytest.fixture
def model(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("qwen2_5_vl"), tmp_path / "model"))


def _without_safetensors(folder: Path) -> None:
    for path in folder.glob("*.safetensors*"):
        path.unlink()


def test_the_trap_springs_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    pickle.loads((tmp_path / "a.bin").read_bytes())
    assert (tmp_path / "mark").is_file()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_weights_that_are_a_pickle_are_not_loaded(model: Path, tmp_path: Path, name: str) -> None:
    _without_safetensors(model)
    (model / name).write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    with pytest.raises(ModelError, match=rf"{name}: these weights are a pickle") as caught:
        load_weights(str(model), dtype=torch.float32)
    assert "Save the model anew" in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_a_pickle_beside_safetensors_is_not_looked_at(model: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin"):
        (model / name).write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    load_weights(str(model), dtype=torch.float32)
    assert not (tmp_path / "mark").exists()


def test_an_adapter_that_is_a_pickle_is_not_loaded(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})
    )
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    base = load_weights(str(model), dtype=torch.float32)
    for load in (lambda: saved_tensors(adapter), lambda: load_adapter(base, adapter)):
        with pytest.raises(ModelError, match=r"adapter_model\.bin: these weights are a pickle"):
            load()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_code_of_a_checkpoint_is_not_run(model: Path, tmp_path: Path, name: str) -> None:
    """Its classes are those of transformers, whatever `auto_map` says."""
    mark = tmp_path / "mark"
    (model / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Own: pass\n")
    path = model / name
    told = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kinds = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer")
    told["auto_map"] = dict.fromkeys(kinds, "own.Own")
    path.write_text(json.dumps(told), encoding="utf-8")
    checkpoint = open_checkpoint(str(model))
    loaded = load_weights(str(model), dtype=torch.float32)
    for made in (checkpoint.config, checkpoint.processor, loaded):
        assert type(made).__module__.startswith("transformers.")
    assert not mark.exists()
