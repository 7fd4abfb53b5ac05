"""A training of ms-swift as a run configuration: a YAML or JSON file, or a script with `swift sft`.

A script is read, never run. Variables of the environment that decide pixels and frames count like
flags. What is not given is ms-swift's default, and is written out where it changes the result.

Reference: arguments/ of ms-swift 4.6; tests/unit/interop/test_import_swift.py.
"""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import Any

from sightline.families import TrainableFamily
from sightline.interop.given_values import as_float, as_int, as_text
from sightline.interop.imported import Imported
from sightline.interop.ledger import Ledger, Rule
from sightline.interop.mapping_file import read_mapping
from sightline.interop.model_keys import carry_model, carry_video_pixels
from sightline.interop.packed_rows import swift_rows
from sightline.interop.processes import carry_processes, is_one_unless_said, launched
from sightline.interop.shell import read_command, read_flags
from sightline.interop.swift_data import carry_data
from sightline.interop.swift_tuning import (
    SWIFT_TUNING_REASONS,
    carry_rates,
    carry_tuning,
    take_method,
)
from sightline.interop.trainer_keys import TRAINER_REASONS, carry_output, carry_training

_TRAINER_DEFAULTS = {"lr_scheduler_type": "cosine", "warmup_ratio": 0.0, "weight_decay": 0.1}
_TOTAL_BATCH = 16
_UNIT = 28 * 28
_WHOLE_FIT = "shrink, split, trim, drop"

_REASONS = TRAINER_REASONS | {
    "The family is read from the checkpoint itself.": "model_type task_type",
    "The checkpoint's own chat template is used.": (
        "template template_backend use_chat_template agent_template enable_thinking padding_side "
        "response_prefix"
    ),
    "No such key: write the system prompt into the rows.": "system",
    "Rows are filled as full as they get, and with other samples in every epoch.": (
        "packing_num_proc packing_strategy"
    ),
    "No part is split off: write held-out rows into a file and name it in data.eval.": (
        "split_dataset_ratio"
    ),
    "Data are indexed once and read from disk; nothing is tokenised ahead.": (
        "lazy_tokenize load_from_cache_file shuffle_buffer_size download_mode cached_dataset "
        "streaming"
    ),
    "A bad sample is never swapped for another: it goes to quarantine.jsonl (data.on_bad).": (
        "strict"
    ),
    "Samples are always shuffled by training.seed.": "dataset_shuffle train_dataloader_shuffle",
    "Boxes are written in the space of the model's family, by itself.": (
        "norm_bbox QWENVL_BBOX_FORMAT"
    ),
    "Name columns in columns of a source.": "columns custom_dataset_info",
    "An adapter is not carried on: merge it first, and name the merged model.": "adapters",
    "Changes how fast it runs, not what is learnt.": (
        "device_map max_memory tuner_backend use_logits_to_keep CUDA_VISIBLE_DEVICES "
        "PYTORCH_CUDA_ALLOC_CONF OMP_NUM_THREADS acc_strategy"
    ),
    "Changes what is named or printed: the run directory has its own files.": (
        "add_version create_checkpoint_symlink model_author model_name swanlab_project "
        "swanlab_mode swanlab_exp_name ignore_args_error check_model"
    ),
    "Models and data come from the Hugging Face hub, or from disk.": (
        "use_hf hub_token USE_HF USE_MODELSCOPE_HUB"
    ),
    "The newest commit is used; for another, download it and name the folder.": "model_revision",
    "No code of others is loaded; rows are read as they are.": (
        "external_plugins custom_register_path"
    ),
    "Nothing here does this; the run goes without it.": (
        "loss_type loss_scale use_galore lisa_activated_layers enable_dft_loss "
        "enable_channel_loss resume_only_model"
    ),
    "Data sets are joined and shuffled; weight of a source changes its share.": "interleave_prob",
}


def import_swift(config: Path, *, folder: Path) -> Imported:
    """Turn an ms-swift training into a run configuration.

    Args:
        config: A YAML or JSON file of flags, or a shell script with one `swift sft`.
        folder: Folder of the run.yaml, which its paths are relative to.

    Raises:
        ConfigError: The file is missing or broken, or names no model or no data that can be read.
        ModelError: The model is a folder of a family that Sightline does not train.
    """
    given, is_one = _given(config)
    ledger = Ledger("swift", config, given, folder)
    kind = take_method(ledger)
    family = carry_model(ledger, "model")
    carry_data(ledger)
    _carry_lengths(ledger)
    _carry_pixels(ledger, family)
    carry_tuning(ledger, kind, family)
    _carry_training(ledger, kind, unless_said=1 if is_one else None)
    carry_output(ledger, "runs/imported")
    reasons = _REASONS | SWIFT_TUNING_REASONS
    return ledger.done(reasons, "This importer does not know the key; it is left out.")


def _given(config: Path) -> tuple[dict[str, Any], bool]:
    """The keys of a file, and whether one process is started where they do not say how many."""
    is_one = True
    if config.suffix.lower() in (".json", ".yaml", ".yml"):
        given = read_mapping(config)
        environment = given.pop("ENV", None) or {}
    else:
        command = read_command(config, _arguments, "swift sft")
        given, environment = read_flags(command.words, config), dict(command.environment)
        environment |= launched(command.words_before)
        is_one = is_one_unless_said(command.words_before)
    if isinstance(environment, dict):
        given = environment | given
    kwargs = given.pop("model_kwargs", None)
    if isinstance(kwargs, str):
        try:
            kwargs = json.loads(kwargs)
        except ValueError:
            kwargs = {"model_kwargs": kwargs}
    if isinstance(kwargs, dict):
        given |= {name.upper(): value for name, value in kwargs.items()}
    return given, is_one


def _arguments(words: list[str]) -> int | None:
    for place, word in enumerate(words):
        if word.endswith("cli/sft.py"):
            return place + 1
        if word.rsplit("/", 1)[-1] == "swift" and words[place + 1 : place + 2] == ["sft"]:
            return place + 2
    return None


def _carry_lengths(ledger: Ledger) -> None:
    ledger.carry("max_length", Rule("data.max_length", as_int))
    strategy = ledger.take("truncation_strategy", as_text)
    target = "data.fit"
    if strategy in (None, "delete"):
        note = "Theirs shows another sample in its place, unsaid; here it is counted and left out."
        if strategy is None:
            note = f"their default; ours is {_WHOLE_FIT}. {note}"
        ledger.write("truncation_strategy", strategy or "delete", target, ["drop"], "differs", note)
    else:
        note = f"Theirs cuts tokens off; here {_WHOLE_FIT} are tried, and no image is cut."
        ledger.row("truncation_strategy", strategy, target, _WHOLE_FIT, "differs", note)


def _carry_pixels(ledger: Ledger, family: TrainableFamily | None) -> None:
    whole = family is not None and family.video_budget == "whole_video"
    for word in ("MAX", "MIN"):
        target = f"data.images.{word.lower()}_pixels"
        ledger.carry(f"{word}_PIXELS", Rule(target, as_int))
        _carry_tokens(ledger, f"IMAGE_{word}_TOKEN_NUM", target)
    before = "Theirs comes before the processor's own limit; here it takes that one's place."
    ledger.carry("max_pixels", Rule("data.images.max_pixels", as_int, before, "differs"))
    frames = ledger.given.get("FPS_MAX_FRAMES")
    ledger.carry_all(
        {
            "FPS": Rule("data.videos.fps", as_float),
            "FPS_MIN_FRAMES": Rule("data.videos.min_frames", as_int),
            "FPS_MAX_FRAMES": Rule("data.videos.max_frames", as_int),
        }
    )
    most = None if frames is None else as_int(frames)
    for word, default in (("MAX", 768 * _UNIT), ("MIN", 128 * _UNIT)):
        key, tokens_key = f"VIDEO_{word}_PIXELS", f"VIDEO_{word}_TOKEN_NUM"
        target = f"data.videos.{word.lower()}_pixels"
        pixels = ledger.take(key, as_int)
        tokens = ledger.take(tokens_key, as_int)
        if tokens is not None:
            key, pixels = tokens_key, tokens * 32 * 32
        if pixels is not None:
            carry_video_pixels(ledger, key, target, pixels, family, most)
        elif not whole:
            carry_video_pixels(ledger, key, target, default, family, most, is_default=True)


def _carry_tokens(ledger: Ledger, key: str, target: str) -> None:
    tokens = ledger.take(key, as_int)
    if tokens is not None:
        pixels = tokens * 32 * 32
        ledger.write(key, tokens, target, pixels, "differs", "Pixels here: 32 x 32 for a token.")


def _carry_training(ledger: Ledger, kind: str, *, unless_said: int | None) -> None:
    rows = swift_rows(ledger)
    processes = carry_processes(ledger, unless_said)
    if ledger.asked("gradient_accumulation_steps", as_int) is None:
        # Its default makes up for what processes there are, so that a step is the same with any.
        processes = processes or 1
    batch = ledger.asked("per_device_train_batch_size", as_int) or 1
    accumulation = max(1, ceil(_TOTAL_BATCH / max(batch, 1) / (processes or 1)))
    defaults = _TRAINER_DEFAULTS | {
        "learning_rate": 1e-5 if kind == "full" else 1e-4,
        "gradient_accumulation_steps": accumulation,
    }
    _carry_dtype(ledger)
    carry_training(ledger, defaults, "", rows, processes)
    carry_rates(ledger)
    if "adam_beta2" not in ledger.given:
        note = "their default; the optimizer here is AdamW of torch with 0.999."
        ledger.none("adam_beta2", 0.95, note)


def _carry_dtype(ledger: Ledger) -> None:
    dtype = ledger.take("torch_dtype", as_text)
    target = "training.precision"
    named = {"bfloat16": "bf16", "float32": "fp32"}
    if dtype in named:
        note = "Same meaning under another name."
        ledger.write("torch_dtype", dtype, target, named[dtype], "carried", note)
    elif dtype is not None:
        note = f"{dtype} is not offered; auto is bf16 on a GPU that has it, fp32 elsewhere."
        ledger.write("torch_dtype", dtype, target, "auto", "differs", note)
