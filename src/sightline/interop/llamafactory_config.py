"""A LLaMA-Factory training file, YAML or JSON, as a run configuration.

What is not in the file is LLaMA-Factory's default, and is written out where it changes the result.

Reference: hparams/ of LLaMA-Factory 0.9.5; tests/unit/interop/test_import_llamafactory.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.families import TrainableFamily
from sightline.interop.given_values import as_bool, as_float, as_int, as_text
from sightline.interop.imported import Imported
from sightline.interop.ledger import Ledger, Rule
from sightline.interop.llamafactory_data import carry_data
from sightline.interop.llamafactory_tuning import LLAMAFACTORY_TUNING_REASONS, carry_tuning
from sightline.interop.mapping_file import read_mapping
from sightline.interop.model_keys import carry_model, carry_video_pixels
from sightline.interop.packed_rows import llamafactory_rows
from sightline.interop.processes import carry_processes
from sightline.interop.trainer_keys import TRAINER_REASONS, carry_output, carry_training

_TRAINER_DEFAULTS = {
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
}
_ACCUMULATION = "A token mean over the whole step here; theirs is a mean of the passes' means."

_REASONS = TRAINER_REASONS | {
    "The checkpoint's own chat template is used.": (
        "template enable_thinking preserve_thinking tool_format"
    ),
    "No such key: write the system prompt into the rows.": "default_system",
    "It follows from neat_packing there, and is not to be given.": "block_diag_attn",
    "Only the answers are learnt, all of a conversation's.": "train_on_prompt mask_history",
    "No part is split off: write held-out rows into a file and name it in data.eval.": (
        "val_size eval_on_each_dataset"
    ),
    "Data are indexed once and read from disk; nothing is tokenised ahead.": (
        "preprocessing_batch_size overwrite_cache tokenized_path buffer_size "
        "data_shared_file_system"
    ),
    "Hub data are fetched whole. For a part, set streaming and num_samples of a source.": (
        "streaming"
    ),
    "Another optimizer; AdamW is used here.": (
        "use_galore use_apollo use_badam use_muon use_adam_mini"
    ),
    "An adapter is not carried on: merge it first, and name the merged model.": (
        "adapter_name_or_path create_new_adapter"
    ),
    "Images are not cut into tiles for these families.": ("image_do_pan_and_scan crop_to_patches"),
    "Changes how fast it runs, not what is learnt.": (
        "use_unsloth use_unsloth_gc use_fast_tokenizer use_kv_cache"
    ),
    "Changes what is printed or measured; the run directory has its own curves.": (
        "include_num_input_tokens_seen include_effective_tokens_per_second compute_accuracy "
        "print_param_status use_swanlab swanlab_project swanlab_run_name swanlab_mode"
    ),
    "The newest commit is used; for another, download it and name the folder.": "model_revision",
    "Belongs to export; a run here exports by itself.": (
        "export_dir export_size export_device export_legacy_format export_hub_model_id"
    ),
    "Nothing here does this; the run goes without it.": (
        "shift_attn mixture_of_depths rope_scaling resize_vocab add_tokens add_special_tokens "
        "split_special_tokens use_dft_loss use_asft_loss use_eaft_loss disable_shuffling "
        "use_llama_pro upcast_layernorm upcast_lmhead_output moe_aux_loss_coef "
        "train_from_scratch use_audio_in_video audio_sampling_rate"
    ),
}


def import_llamafactory(config: Path, *, folder: Path) -> Imported:
    """Turn a LLaMA-Factory training file into a run configuration.

    Args:
        config: The YAML or JSON file.
        folder: Folder of the run.yaml, which its paths are relative to.

    Raises:
        ConfigError: The file is missing or broken, names no model or data, or asks for training
            that is not supervised fine-tuning.
        ModelError: The model is a folder of a family that Sightline does not train.
    """
    ledger = Ledger("llamafactory", config, read_mapping(config), folder)
    _refuse_other_stages(ledger)
    family = carry_model(ledger, "model_name_or_path")
    carry_data(ledger)
    _carry_limits(ledger, family)
    carry_tuning(ledger, family)
    _carry_checkpointing(ledger)
    rows = llamafactory_rows(ledger)
    # It starts a process on every GPU that it finds, unless its environment says otherwise.
    processes = carry_processes(ledger, unless_said=None)
    carry_training(ledger, _TRAINER_DEFAULTS, _ACCUMULATION, rows, processes)
    if ledger.given.get("pure_bf16") is not None:
        ledger.carry("pure_bf16", Rule("training.precision", _as_precision))
    carry_output(ledger, "runs/imported")
    reasons = _REASONS | LLAMAFACTORY_TUNING_REASONS
    return ledger.done(reasons, "This importer does not know the key; it is left out.")


def _as_precision(value: Any) -> str:
    return "bf16" if as_bool(value) else "auto"


def _refuse_other_stages(ledger: Ledger) -> None:
    stage = ledger.take("stage", as_text)
    if stage not in (None, "sft"):
        raise ledger.error(
            "stage",
            f"it is {stage}, and Sightline does supervised fine-tuning (sft) only.",
            "Import a file whose stage is sft.",
        )
    if stage:
        ledger.none("stage", stage, "Sightline does nothing else.")


def _carry_limits(ledger: Ledger, family: TrainableFamily | None) -> None:
    before = "Theirs comes before the checkpoint's own limit; here it takes that one's place."
    cut = "Theirs cuts what is longer, through images too; here data.fit makes it fit, whole."
    ledger.carry_all(
        {
            "cutoff_len": Rule("data.max_length", as_int, cut, "differs", 2048),
            "image_max_pixels": Rule("data.images.max_pixels", as_int, default=589824),
            "image_min_pixels": Rule("data.images.min_pixels", as_int, before, "differs"),
            "video_fps": Rule("data.videos.fps", as_float),
        }
    )
    frames = ledger.take("video_maxlen", as_int)
    if frames is None:
        frames = 128
        ledger.write_default("video_maxlen", frames, "data.videos.max_frames", frames)
    else:
        # One frame is an image: the least that a video can be here is two.
        result = max(frames, 2)
        verdict = "carried" if result == frames else "differs"
        note = "Same meaning under another name." if result == frames else "Fewest here is 2."
        ledger.write("video_maxlen", frames, "data.videos.max_frames", result, verdict, note)
    ledger.write_default(
        "(fewest frames)", 1, "data.videos.min_frames", 2, "Theirs has no lower bound."
    )
    for word, default in (("max", 65536), ("min", None)):
        key = f"video_{word}_pixels"
        given = ledger.take(key, as_int)
        pixels = default if given is None else given
        if pixels is not None:
            target = f"data.videos.{word}_pixels"
            carry_video_pixels(
                ledger, key, target, pixels, family, max(frames, 2), is_default=given is None
            )


def _carry_checkpointing(ledger: Ledger) -> None:
    disabled = ledger.take("disable_gradient_checkpointing", as_bool)
    if disabled is not None:
        note = "The opposite sense; always the non-reentrant kind here."
        target = "training.gradient_checkpointing"
        key = "disable_gradient_checkpointing"
        ledger.write(key, disabled, target, not disabled, "carried", note)
