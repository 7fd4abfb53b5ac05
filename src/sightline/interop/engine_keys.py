"""Keys of transformers' trainer for the best checkpoint, kernels, compiling and launching."""

from __future__ import annotations

from sightline.interop.given_values import as_bool, as_text
from sightline.interop.imported import Verdict
from sightline.interop.ledger import Ledger

_BEST = "load_best_model_at_end"
_METRIC = "metric_for_best_model"
_HIGHER = "greater_is_better"
_HOW_TO_COMPILE = ("torch_compile_backend", "torch_compile_mode")
_LOSSES = ("loss", "eval_loss")

ENGINE_REASONS: dict[str, str] = {
    "Processes find each other by torch's own settings; pictures that some lack are made up for.": (
        "ddp_timeout ddp_backend ddp_find_unused_parameters ddp_bucket_cap_mb "
        "ddp_broadcast_buffers NODE_RANK MASTER_ADDR MASTER_PORT master_addr master_port node_rank "
        "rdzv_id rdzv_backend rdzv_endpoint"
    ),
    "No key of run.yaml: sightline train run.yaml --processes N --ray.": (
        "use_ray ray_run_name ray_storage_path ray_init_kwargs ray_exp_name "
        "resources_per_worker placement_strategy device_groups"
    ),
    "Steps are balanced by what samples cost, and where the model can there is no padding.": (
        "group_by_length length_column_name train_sampling_strategy"
    ),
    "A batch that does not fit ends the run, with what would fit: nothing is changed unsaid.": (
        "auto_find_batch_size"
    ),
    "A token mean over the whole step and all processes, always.": (
        "average_tokens_across_devices"
    ),
    "Head and loss are computed in chunks; no other kernel of Liger's is used.": (
        "liger_kernel_config"
    ),
}


def carry_engine(ledger: Ledger) -> None:
    """Carry over which checkpoint is kept, and how the model is computed.

    Raises:
        ConfigError: A value is none.
    """
    _carry_best(ledger)
    _carry_liger(ledger)
    _carry_compile(ledger)


def _carry_best(ledger: Ledger) -> None:
    best = ledger.take(_BEST, as_bool)
    metric = ledger.take(_METRIC, as_text)
    higher = ledger.take(_HIGHER, as_bool)
    rest = [
        (key, value) for key, value in ((_METRIC, metric), (_HIGHER, higher)) if value is not None
    ]
    if not best:
        if best is False:
            ledger.row(_BEST, best, "training.best_by", None, "carried", "The last is exported.")
        for key, value in rest:
            note = f"Without effect on what is exported: {_BEST} is not set there."
            ledger.none(key, value, note)
        return
    reason = _why_not_best(ledger, metric, higher)
    if reason:
        for key, value in [(_BEST, best), *rest]:
            ledger.none(key, value, reason)
        return
    note = "The checkpoint with the lowest is kept, and exported."
    ledger.write(_BEST, best, "training.best_by", "eval_loss", "carried", note)
    for key, value in rest:
        ledger.row(key, value, "training.best_by", "eval_loss", "carried", "")


def _why_not_best(ledger: Ledger, metric: str | None, higher: bool | None) -> str:
    """Why no checkpoint is the best; empty where one is, by the lowest loss."""
    last = "The last checkpoint is exported."
    if metric is not None and metric not in _LOSSES:
        return f"Checkpoints are told apart by eval_loss alone, not by {metric}. {last}"
    if higher:
        return f"Theirs takes the highest loss for the best. {last} For the lowest: best_by."
    if not ledger.values.get("data", {}).get("eval"):
        return f"No held-out data is named, so nothing is evaluated. {last}"
    return ""


def _carry_liger(ledger: Ledger) -> None:
    target = "training.head_loss"
    for key in ("use_liger_kernel", "enable_liger_kernel"):
        wanted = ledger.take(key, as_bool)
        if wanted is None:
            continue
        note = "Head and loss of supervised tokens alone are computed in chunks."
        verdict: Verdict = "carried"
        if wanted:
            verdict = "differs"
            note = f"{note} Liger's own: head_loss: liger; its other kernels are not used."
        ledger.row(key, wanted, target, "auto", verdict, note)


def _carry_compile(ledger: Ledger) -> None:
    target = "training.compile"
    wanted = ledger.take("torch_compile", as_bool)
    how = {key: ledger.take(key, as_text) for key in _HOW_TO_COMPILE}
    switched_on = [key for key, value in how.items() if value is not None]
    if wanted is False and switched_on:
        ledger.none("torch_compile", wanted, f"{switched_on[0]} switches it on there, too.")
    elif wanted is not None:
        ledger.write("torch_compile", wanted, target, wanted, "carried", "Block by block here.")
    for key, value in how.items():
        if value is not None:
            usual = value in ("inductor", "default")
            note = "Switches it on, as there." if usual else "On, as torch does by default."
            ledger.write(key, value, target, True, "carried" if usual else "differs", note)
