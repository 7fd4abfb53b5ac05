"""DeepSpeed's and FSDP's settings of other tools as ``training.parallel``.

Reference: docs/source of transformers 5.23 for ``deepspeed``, ``fsdp`` and ``fsdp_config``;
swift/config of ms-swift 4.6; examples/deepspeed of LLaMA-Factory 0.9.5;
tests/unit/interop/test_sharding.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import ConfigError
from sightline.interop.given_values import as_flag, as_int
from sightline.interop.imported import Verdict
from sightline.interop.ledger import Ledger, our_default
from sightline.interop.mapping_file import read_mapping

_TARGET = "training.parallel"
_ENGINES = {0: "ddp", 1: "zero1", 2: "zero2", 3: "zero3"}
_STAGE = re.compile(r"(?:zero|stage|(?<![a-z])z)[-_]?([0-3])(?!\d)")
_STRATEGIES = ("full_shard", "shard_grad_op", "no_shard", "hybrid_shard", "hybrid_shard_zero2")
_OFFLOAD = "No offload here: weights and the optimizer's state stay on the devices that train."
_OFFLOADED = ("optimizer", "param")
_EXTRA = "With pip install 'sightline[deepspeed]'."
_QUANTISED = "Quantised weights are not cut into slices here: each process holds all of them."
_SWIFT_NAMES = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
_NOT_HERE = "There is no such file here"

SHARDING_REASONS: dict[str, str] = {
    "Weights are not divided further here: training.parallel is all there is.": (
        "zero_hpz_partition_size deepspeed_autotp_size sequence_parallel_size"
    ),
    "The blocks of both towers are wrapped, whatever the family calls them.": (
        "fsdp_transformer_layer_cls_to_wrap fsdp_min_num_params"
    ),
}


def carry_sharding(ledger: Ledger) -> None:
    """Carry over how processes share weights, gradients and the optimizer's state.

    Raises:
        ConfigError: A stage or a strategy is unknown, a file is broken, or both engines are named.
    """
    deepspeed = _switched_on(ledger, "deepspeed")
    fsdp = _switched_on(ledger, "fsdp")
    if deepspeed is not None and fsdp is not None:
        raise ledger.error(
            "fsdp", f"{fsdp!r} is given beside deepspeed: {deepspeed!r}.", "Leave one of them out."
        )
    if deepspeed is not None:
        _carry_deepspeed(ledger, deepspeed)
    if fsdp is not None:
        _carry_fsdp(ledger, fsdp)
    left = ledger.take("fsdp_config")
    if left is not None:
        ledger.none("fsdp_config", left, "Says nothing without fsdp.")


def _switched_on(ledger: Ledger, key: str) -> Any:
    value = ledger.take(key)
    if value is None or value in ("", [], {}) or not as_flag(value):
        if value is not None:
            ledger.none(key, value, "Not switched on.")
        return None
    return value


def _carry_deepspeed(ledger: Ledger, value: Any) -> None:
    key = "deepspeed"
    settings, name = _settings(ledger, key, value)
    note = ""
    if settings is not None:
        zero = settings.get("zero_optimization")
        zero = zero if isinstance(zero, Mapping) else {}
        stage = ledger.convert(key, zero.get("stage", 0), as_int)
        has_offload = any(_is_offloaded(zero.get(f"offload_{what}")) for what in _OFFLOADED)
    else:
        found = _STAGE.search(name)
        if found is None:
            ledger.none(
                key, value, f"{_NOT_HERE}, and its name tells no stage. Set {_TARGET}: zero1 to 3."
            )
            return
        stage, has_offload = int(found[1]), "offload" in name
        if name not in _SWIFT_NAMES:
            note = f"{_NOT_HERE}; its name tells the stage."
    if stage not in _ENGINES:
        raise ledger.error(key, f"its stage is {stage}; ZeRO has 0 to 3.", "Mend it there.")
    said = _EXTRA if stage else "Stage 0 shares nothing out: torch's own."
    _write(ledger, key, value, _ENGINES[stage], "carried", f"{said} {note}".rstrip())
    if has_offload:
        ledger.none(key, "(offload)", _OFFLOAD)
    if settings is not None:
        _say_rest(ledger, settings)


def _write(ledger: Ledger, key: str, value: Any, result: str, verdict: Verdict, note: str) -> None:
    """Write the engine; a quantised base is not cut into slices here."""
    if result in ("fsdp", "zero3") and ledger.values.get("tuning", {}).get("quantization"):
        result, verdict, note = "ddp", "differs", _QUANTISED
    ledger.write(key, value, _TARGET, result, verdict, note)


def _is_offloaded(settings: Any) -> bool:
    return isinstance(settings, Mapping) and settings.get("device") not in (None, "none")


def _say_rest(ledger: Ledger, settings: Mapping[str, Any]) -> None:
    """What of DeepSpeed's own settings changes the result."""
    scheduler = settings.get("scheduler")
    if isinstance(scheduler, Mapping):
        target = "training.scheduler"
        result = ledger.values.get("training", {}).get("scheduler", our_default(target))
        note = (
            f"Its file has a scheduler of its own, {scheduler.get('type')}, which theirs follows; "
            "here it is as lr_scheduler_type says."
        )
        ledger.row("deepspeed", "(scheduler)", target, result, "differs", note)
    if settings.get("tensor_parallel"):
        ledger.none("deepspeed", "(tensor_parallel)", "A layer is not split over devices here.")


def _carry_fsdp(ledger: Ledger, value: Any) -> None:
    words, config = _fsdp_words(ledger, value)
    given = ledger.take("fsdp_config")
    if given is not None:
        settings, _ = _settings(ledger, "fsdp_config", given)
        if settings is None:
            note = f"{_NOT_HERE}: whether it offloads or checkpoints is not known."
            ledger.none("fsdp_config", given, note)
        else:
            config = {**config, **_plain(settings)}
            note = "What is wrapped and how it is saved follows from the family and the run."
            ledger.row("fsdp_config", given, _TARGET, "fsdp", "carried", note)
    resharding = str(config.get("reshard_after_forward", "")).lower()
    strategy = next((word for word in words if word in _STRATEGIES), resharding)
    result, verdict, note = _as_engine(strategy)
    _write(ledger, "fsdp", value, result, verdict, note)
    if "offload" in words or any(_is_set(config, k) for k in ("cpu_offload", "offload_params")):
        ledger.none("fsdp", "(offload)", _OFFLOAD)
    if _is_set(config, "activation_checkpointing"):
        target = "training.gradient_checkpointing"
        note = "Same meaning under another name."
        ledger.write("fsdp", "(activation_checkpointing)", target, True, "carried", note)


def _as_engine(strategy: str) -> tuple[str, Verdict, str]:
    if strategy == "no_shard":
        return "ddp", "carried", "Nothing is shared out: torch's own."
    if strategy in ("shard_grad_op", "false"):
        note = "Theirs keeps weights whole between both passes; here they are shared out again."
        return "fsdp", "differs", note
    if strategy.startswith("hybrid"):
        note = "Theirs shares weights out within a machine, here over all processes."
        return "fsdp", "differs", note
    return "fsdp", "carried", "FSDP2 here."


def _fsdp_words(ledger: Ledger, value: Any) -> tuple[list[str], dict[str, Any]]:
    """The words that ``fsdp`` stands for, and what a file of ms-swift has in ``fsdp_config``."""
    settings: Mapping[str, Any] | None = None
    config: Any = {}
    if isinstance(value, Mapping) or str(value).startswith("{") or str(value).endswith(".json"):
        settings, _ = _settings(ledger, "fsdp", value)
        config = (settings or {}).get("fsdp_config") or {}
        value = (settings or {}).get("fsdp") or []
    items = value if isinstance(value, list) else str(value).split()
    words = [str(item).lower() for item in items]
    known = (*_STRATEGIES, "offload", "auto_wrap", "fsdp2", "true")
    for word in words:
        if word not in known:
            raise ledger.error(
                "fsdp", f"{word!r} is given; known are {', '.join(known[:-1])}.", "Mend it there."
            )
    if "fsdp2" in words:
        # What ms-swift's preset of this name says beside it.
        config = {"activation_checkpointing": True}
    return words, _plain(config) if isinstance(config, Mapping) else {}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name).removeprefix("fsdp_"): value for name, value in config.items()}


def _is_set(config: Mapping[str, Any], name: str) -> bool:
    return as_flag(config.get(name))


def _settings(ledger: Ledger, key: str, value: Any) -> tuple[Mapping[str, Any] | None, str]:
    """A mapping, JSON in a text, or a JSON file; and its name, where it is none of them.

    Raises:
        ConfigError: It is no mapping.
    """
    if isinstance(value, Mapping):
        return value, ""
    text = str(value)
    if isinstance(value, list):
        raise ledger.error(key, f"{value!r} is given; a file is expected.", "Mend it there.")
    if text.startswith("{"):
        try:
            return json.loads(text), ""
        except ValueError as error:
            raise ledger.error(key, f"it is not JSON: {error}.", "Mend it there.") from None
    file = ledger.found(text)
    if not file.is_file():
        return None, Path(text).stem.lower()
    try:
        return read_mapping(file), ""
    except ConfigError as error:
        raise ledger.error(key, f"{error}", "Mend that file.") from error
