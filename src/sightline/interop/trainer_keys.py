"""Keys of transformers' trainer, which all three tools take, as keys of ``training``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from sightline.config import Tracker
from sightline.interop.engine_keys import ENGINE_REASONS, carry_engine
from sightline.interop.given_values import as_bool, as_float, as_int, as_limit, as_list, as_text
from sightline.interop.imported import Verdict
from sightline.interop.ledger import Ledger, Rule, our_default
from sightline.interop.packed_rows import PackedRows
from sightline.interop.sharding import SHARDING_REASONS, carry_sharding
from sightline.interop.step_size import carry_step

_SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup")

_RULES: dict[str, Rule] = {
    "num_train_epochs": Rule("training.epochs", as_float),
    "max_steps": Rule("training.max_steps", as_limit),
    "learning_rate": Rule("training.learning_rate", as_float),
    "warmup_ratio": Rule("training.warmup_ratio", as_float),
    "weight_decay": Rule("training.weight_decay", as_float),
    "max_grad_norm": Rule("training.max_grad_norm", as_float),
    "seed": Rule("training.seed", as_int),
    "gradient_checkpointing": Rule("training.gradient_checkpointing", as_bool),
    "logging_steps": Rule("training.log_every", as_int),
    "save_total_limit": Rule("training.save_total_limit", as_int),
    "dataloader_num_workers": Rule("training.num_workers", as_int),
}

TRAINER_REASONS: dict[str, str] = {
    "The optimizer is AdamW of torch, with its own betas.": (
        "optim adam_beta1 adam_beta2 adam_epsilon"
    ),
    "Decides where or how fast it runs, not what is learnt.": (
        "flash_attn attn_impl attn_implementation tf32 dataloader_pin_memory "
        "dataloader_persistent_workers dataloader_prefetch_factor per_device_eval_batch_size "
        "cache_dir low_cpu_mem_usage torch_empty_cache_steps"
    ),
    "Decides what is printed or kept; the run directory has its own names.": (
        "run_name logging_dir logging_first_step logging_strategy plot_loss log_level "
        "disable_tqdm save_only_model save_safetensors push_to_hub"
    ),
    "An option here: sightline train RUN --overwrite.": "overwrite_output_dir",
    "An option here: sightline train RUN --resume.": "resume_from_checkpoint",
    "sightline train always trains, and evaluates where data.eval names data.": (
        "do_train do_eval do_predict predict_with_generate"
    ),
    "Checkpointing is always the non-reentrant kind here.": (
        "gradient_checkpointing_kwargs use_reentrant_gc vit_gradient_checkpointing"
    ),
    "No code of a checkpoint is run here.": "trust_remote_code",
    **ENGINE_REASONS,
    **SHARDING_REASONS,
    "Nothing here does this: the run goes without it.": (
        "label_smoothing_factor neftune_noise_alpha lr_scheduler_kwargs data_seed "
        "early_stopping_steps early_stop_interval"
    ),
}


def carry_training(
    ledger: Ledger,
    defaults: Mapping[str, Any],
    accumulation: str,
    rows: PackedRows | None,
    processes: int | None,
) -> None:
    """Carry over what is transformers' in all three tools.

    Args:
        ledger: What is filled.
        defaults: The tool's defaults of these keys that change the result.
        accumulation: How its loss is averaged over the passes of a step; empty for our way.
        rows: What its batch counts where samples are packed; None for samples.
        processes: Processes over all machines; None where the file does not tell.

    Raises:
        ConfigError: A value is none.
    """
    _carry_odd_values(ledger)
    carry_step(ledger, defaults, accumulation, rows, processes)
    for key, rule in _RULES.items():
        ledger.carry(key, rule._replace(default=defaults.get(key)))
    _carry_scheduler(ledger, defaults["lr_scheduler_type"])
    _carry_warmup(ledger)
    _carry_precision(ledger)
    _carry_saving(ledger)
    carry_engine(ledger)
    carry_sharding(ledger)
    _carry_trackers(ledger)


def _carry_trackers(ledger: Ledger) -> None:
    trackers = ledger.take("report_to", as_list)
    if trackers is None:
        return
    named = [one for one in dict.fromkeys(trackers) if one in get_args(Tracker)]
    note = ""
    if "all" in trackers:
        note = "all means every tracker installed; name them here."
    elif left_out := [one for one in trackers if one not in (*named, "none")]:
        note = f"The Trainer of transformers has no tracker {left_out[0]}."
    verdict: Verdict = "differs" if note else "carried"
    ledger.write("report_to", trackers, "training.report_to", named, verdict, note)


def _carry_odd_values(ledger: Ledger) -> None:
    """Values with a meaning of their own, which the keys of run.yaml refuse."""
    norm, steps = ledger.given.get("max_grad_norm"), ledger.given.get("logging_steps")
    if norm is not None and ledger.convert("max_grad_norm", norm, as_float) == 0:
        ledger.take("max_grad_norm")
        note = "0 switches it off there; here it is a norm that nothing reaches."
        ledger.write("max_grad_norm", norm, "training.max_grad_norm", 1e9, "differs", note)
    if steps is not None and 0 < ledger.convert("logging_steps", steps, as_float) < 1:
        ledger.take("logging_steps")
        note = "A share of all steps there; here a line for every step."
        ledger.none("logging_steps", steps, note)


def _carry_scheduler(ledger: Ledger, default: str) -> None:
    key, target = "lr_scheduler_type", "training.scheduler"
    given = ledger.take(key, as_text)
    if given is None:
        if default != our_default(target):
            ledger.write_default(key, default, target, default)
    elif given in _SCHEDULERS:
        ledger.write(key, given, target, given, "carried", "")
    else:
        note = f"There is no {given} here; known are {', '.join(_SCHEDULERS)}."
        ledger.write(key, given, target, "cosine", "differs", note)


def _carry_warmup(ledger: Ledger) -> None:
    steps, target = ledger.take("warmup_steps", as_float), "training.warmup_ratio"
    total = ledger.values.get("training", {}).get("max_steps")
    if not steps:
        return
    if steps < 1:
        ledger.write("warmup_steps", steps, target, steps, "carried", "Below 1 it is a share.")
    elif total is not None and steps < total:
        note = f"A share of steps here: {steps:g} of max_steps {total}."
        ledger.write("warmup_steps", steps, target, round(steps / total, 6), "differs", note)
    else:
        note = f"A share of steps here, and how many there are is not in the file. Set {target}."
        ledger.none("warmup_steps", steps, note)


def _carry_precision(ledger: Ledger) -> None:
    target = "training.precision"
    given = {key: ledger.take(key, as_bool) for key in ("bf16", "fp16")}
    for key, value in given.items():
        if value and key == "fp16":
            note = "fp16 is not offered: it overflows in these models. auto is bf16 or fp32."
            ledger.write(key, value, target, "auto", "differs", note)
        elif value:
            ledger.write(key, value, target, "bf16", "carried", "")
        elif value is False:
            note = "Says nothing by itself; auto is bf16 on a GPU that has it."
            ledger.row(key, value, target, "auto", "carried", note)


def _carry_saving(ledger: Ledger) -> None:
    for word, target in (("save", "training.save_every"), ("eval", "training.eval_every")):
        older = ledger.take("evaluation_strategy", as_text) if word == "eval" else None
        strategy = ledger.take(f"{word}_strategy", as_text) or older
        steps = ledger.take(f"{word}_steps", as_float)
        has_data = word == "save" or bool(ledger.values.get("data", {}).get("eval"))
        if strategy is not None:
            _say_strategy(ledger, f"{word}_strategy", strategy, target, has_data)
        if steps is None:
            continue
        key = f"{word}_steps"
        steps = int(steps) if steps == int(steps) else steps
        if not has_data:
            ledger.none(key, steps, "No held-out data is named, so nothing is evaluated.")
        elif strategy in ("no", "epoch"):
            ledger.none(key, steps, f"Without effect there too: {word}_strategy is {strategy}.")
        elif steps < 1 or isinstance(steps, float):
            ledger.none(key, steps, f"A share of all steps there. Set {target} to a number.")
        else:
            ledger.write(
                key, int(steps), target, int(steps), "carried", "Same meaning under another name."
            )


def _say_strategy(ledger: Ledger, key: str, strategy: str, target: str, has_data: bool) -> None:
    if not has_data:
        ledger.none(key, strategy, "No held-out data is named, so nothing is evaluated.")
    elif strategy in ("epoch", "steps"):
        ledger.row(
            key,
            strategy,
            target,
            None,
            "carried",
            "Here a number is steps, and null every epoch's end.",
        )
    else:
        ledger.row(key, strategy, target, None, "differs", "Here at the end of every epoch.")


def carry_output(ledger: Ledger, fallback: str) -> None:
    """Carry the run directory over; both tools take it relative to the working directory."""
    given = ledger.take("output_dir", as_text)
    if given is None:
        ledger.write_default("output_dir", fallback, "output", fallback, "Choose your own.")
        return
    note = "A run directory here: model, certificate, report, curves."
    ledger.write("output_dir", given, "output", given, "differs", note)
