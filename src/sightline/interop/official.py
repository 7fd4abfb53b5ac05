"""A script of Qwen's own fine-tuning code (``train_qwen.py``) as a run configuration.

Scripts are read, never run: words, quotes, comments and plain ``name=value`` variables are
understood, and what a command would print is not known. Data sets are looked up in a Python file
of literals, which is parsed and never imported.

Reference: qwen-vl-finetune/ of QwenLM; tests/unit/interop/test_import_official.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sightline.families import TrainableFamily
from sightline.interop.data_dict import read_datasets
from sightline.interop.given_values import as_flag, as_float, as_int, as_list
from sightline.interop.imported import Imported
from sightline.interop.ledger import Ledger, Rule
from sightline.interop.model_keys import carry_model
from sightline.interop.official_tuning import carry_tuning
from sightline.interop.packed_rows import official_rows
from sightline.interop.processes import carry_processes, is_one_unless_said, launched
from sightline.interop.shell import read_command, read_flags
from sightline.interop.trainer_keys import TRAINER_REASONS, carry_output, carry_training

_MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
_TRAINER_DEFAULTS = {
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
    "gradient_checkpointing": False,
}
_ACCUMULATION = (
    "A token mean over the whole step here; theirs is a mean of the passes' means with "
    "Qwen2.5-VL and Qwen3-VL."
)

_REASONS = TRAINER_REASONS | {
    "Their code does not use it.": "base_interval",
    "Plain LoRA without biases, as their code has it.": "lora_bias lora_target_modules",
}
_DATASETS = Path("qwenvl/data/__init__.py")


def import_official(config: Path, *, folder: Path, datasets: Path | None = None) -> Imported:
    """Turn a script that starts ``train_qwen.py`` into a run configuration.

    Args:
        config: The shell script.
        folder: Folder of the run.yaml, which its paths are relative to.
        datasets: The Python file with ``data_dict``; None looks for ``qwenvl/data/__init__.py``
            below the working directory and beside the script's folder.

    Raises:
        ConfigError: The script or the file of data sets is missing or broken, or does not name
            what it should.
        ModelError: The model is a folder of a family that Sightline does not train.
    """
    command = read_command(config, _arguments, "train_qwen.py")
    given = launched(command.words_before) | read_flags(command.words, config)
    ledger = Ledger("official", config, given, folder)
    if "model_name_or_path" not in ledger.given:
        ledger.given["model_name_or_path"] = _MODEL
    family = carry_model(ledger, "model_name_or_path")
    _carry_data(ledger, datasets)
    _carry_limits(ledger, family)
    carry_tuning(ledger, family)
    rows = official_rows(ledger)
    processes = carry_processes(ledger, 1 if is_one_unless_said(command.words_before) else None)
    carry_training(ledger, _TRAINER_DEFAULTS, _ACCUMULATION, rows, processes)
    carry_output(ledger, "runs/imported")
    return ledger.done(_REASONS, "This importer does not know the flag; it is left out.")


def _carry_data(ledger: Ledger, datasets: Path | None) -> None:
    key = "dataset_use"
    names = ledger.take(key, as_list) or []
    if not names:
        raise ledger.error(key, "no data set is named.", "Write --dataset_use NAME there.")
    file = _datasets_file(ledger, datasets)
    known = read_datasets(file)
    sources = []
    for index, text in enumerate(names):
        name, _, percent = text.partition("%")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ledger.error(
                key, f"{file} has no data set {name!r}.{hint}", f"It has {', '.join(known)}."
            )
        source = _source(ledger, known[name])
        note = "" if (ledger.folder / source["path"]).exists() else "There is no such file here."
        if percent:
            source["weight"] = ledger.convert(key, percent, as_float) / 100
            note = f"{percent} % is weight {source['weight']:g}. {note}".rstrip()
        sources.append(source)
        ledger.row(key, text, f"data.train[{index}]", source["path"], "carried", note)
    ledger.put("data.train", sources)


def _source(ledger: Ledger, entry: Mapping[str, str]) -> dict[str, Any]:
    source: dict[str, Any] = {
        "path": ledger.path(ledger.found(entry["annotation_path"])),
        "format": "official",
    }
    if entry.get("data_path"):
        source["media_root"] = ledger.path(ledger.found(entry["data_path"]))
    else:
        # An empty data_path leaves media paths as they are: relative to the working directory.
        source["media_root"] = ledger.path(Path.cwd())
    return source


def _datasets_file(ledger: Ledger, datasets: Path | None) -> Path:
    if datasets is not None:
        return datasets
    for folder in (Path.cwd(), *list(ledger.source.absolute().parents)[:3]):
        if (folder / _DATASETS).is_file():
            return folder / _DATASETS
    raise ledger.error(
        "dataset_use",
        f"no {_DATASETS} is found, which says where its data sets are.",
        "Name the Python file that holds data_dict with --datasets.",
    )


def _carry_limits(ledger: Ledger, family: TrainableFamily | None) -> None:
    cut = "Theirs cuts what is longer, through images too; here data.fit makes it fit, whole."
    field_of = "The processor's own field, as there: a frame's, or all frames' with Qwen3-VL."
    flat = any(as_flag(ledger.given.get(key)) for key in ("data_flatten", "data_packing"))
    if flat:
        cut = "With data_flatten theirs has no limit at all; here data.fit makes all samples fit."
    if flat and "model_max_length" not in ledger.given:
        note = "Theirs has no limit with data_flatten; null here is the model's own."
        ledger.row("model_max_length", 512, "data.max_length", None, "differs", note)
    else:
        ledger.carry("model_max_length", Rule("data.max_length", as_int, cut, "differs", 512))
    unit = 28 * 28
    ledger.carry_all(
        {
            "max_pixels": Rule("data.images.max_pixels", as_int, default=576 * unit),
            "min_pixels": Rule("data.images.min_pixels", as_int, default=16 * unit),
            "video_max_frames": Rule("data.videos.max_frames", as_int, default=8),
            "video_min_frames": Rule("data.videos.min_frames", as_int, default=4),
            "video_max_pixels": Rule(
                "data.videos.max_pixels", as_int, field_of, default=1024 * unit
            ),
            "video_min_pixels": Rule(
                "data.videos.min_pixels", as_int, field_of, default=256 * unit
            ),
            "video_fps": Rule("data.videos.fps", as_float),
        }
    )


def _arguments(words: list[str]) -> int | None:
    return next((i + 1 for i, word in enumerate(words) if word.endswith("train_qwen.py")), None)
