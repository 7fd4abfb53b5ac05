"""What ms-swift's words for tuning mean, as a plan by towers.

Reference: arguments/tuner_args.py, arguments/base_args/quant_args.py, pipelines/train/tuner.py,
tuner_plugin/lora_llm.py and optimizers/multimodal.py of ms-swift 4.6;
tests/unit/interop/test_swift_tuning.py.
"""

from __future__ import annotations

from sightline.config import TowerName
from sightline.families import TrainableFamily
from sightline.interop.given_values import as_bool, as_float, as_int, as_list, as_text
from sightline.interop.imported import Verdict
from sightline.interop.layer_names import (
    NamedPart,
    may_hit_vision,
    modules_of,
    parts_named,
    towers_hit,
)
from sightline.interop.ledger import Ledger, Rule, our_default
from sightline.interop.lora_targets import Targets, name_targets
from sightline.interop.swift_parameters import PARAMETER_KEYS, carry_parameters
from sightline.interop.tower_plan import (
    carry_quantization,
    carry_saved,
    does_train,
    mode_of,
    set_part,
)

_METHODS = ("lora", "full", "lora_llm")
_FLAGS: dict[TowerName, str] = {
    "language": "freeze_llm",
    "projector": "freeze_aligner",
    "vision": "freeze_vit",
}
_LORA_KEYS = (
    "lora_rank lora_alpha lora_dropout target_modules target_regex modules_to_save use_dora "
    "use_rslora"
)
_NOT_PASSED_ON = "Theirs leaves it out with lora_llm."

SWIFT_TUNING_REASONS: dict[str, str] = {
    "What trains is held in float32 here, always: in bf16 small steps are rounded away.": (
        "lora_dtype"
    ),
    "LoRA's factors have one learning rate here, tuning's own.": "lorap_lr_ratio",
    "The factors begin as LoRA's do: nothing is changed at the first step.": "init_weights",
    "Biases are not trained beside LoRA.": "lora_bias",
    "LoRA adapts layers here, not single tensors such as fused experts.": "target_parameters",
    "Decides what the quantised weights take and compute in, not what is learnt.": (
        "bnb_4bit_compute_dtype bnb_4bit_use_double_quant bnb_4bit_quant_storage hqq_axis"
    ),
    "Says nothing without quant_method.": "bnb_4bit_quant_type",
}


def take_method(ledger: Ledger) -> str:
    """How the run trains: ``lora``, ``full`` or ``lora_llm``; older releases have other keys.

    Raises:
        ConfigError: It is another one.
    """
    for key in ("tuner_type", "train_type", "sft_type"):
        kind = ledger.take(key, as_text)
        if kind is None:
            continue
        if kind not in _METHODS:
            raise ledger.error(
                key,
                f"it is {kind}, and Sightline knows lora, full and lora_llm.",
                "Choose one of them there, or write run.yaml by hand: sightline config --explain.",
            )
        note = "Each tower says by itself how it trains."
        ledger.row(key, kind, "tuning", "per tower", "carried", note)
        return kind
    return "lora"


def carry_tuning(ledger: Ledger, kind: str, family: TrainableFamily | None) -> None:
    """Carry over what trains.

    Args:
        ledger: What is filled.
        kind: ``lora``, ``full`` or ``lora_llm``.
        family: The model's family, where it can be told.

    Raises:
        ConfigError: A value is none.
    """
    _carry_towers(ledger, kind)
    if kind == "full":
        _carry_ends(ledger)
        carry_parameters(ledger, modules_of(family))
    else:
        _carry_lora(ledger, kind, family)
    for keys, belongs in ((_LORA_KEYS, "LoRA"), (PARAMETER_KEYS, "full")):
        for key in keys.split():
            value = ledger.take(key)
            if value is not None:
                ledger.none(key, value, f"Without effect there too: it belongs to {belongs}.")
    _carry_bits(ledger, kind)


def carry_rates(ledger: Ledger) -> None:
    """Carry over the learning rates that towers have of their own."""
    optimizer = ledger.take("optimizer", as_text)
    rates: dict[str, TowerName] = {"vit_lr": "vision", "aligner_lr": "projector"}
    if optimizer == "multimodal":
        ledger.row("optimizer", optimizer, "tuning", "per tower", "carried", "Rates by tower.")
    elif optimizer is not None:
        ledger.none("optimizer", optimizer, "The optimizer is AdamW of torch, with its own betas.")
    for key, tower in rates.items():
        rate = ledger.take(key, as_float)
        if rate is None:
            continue
        if not does_train(ledger, tower):
            ledger.none(key, rate, f"Without effect there too: {tower} is frozen.")
            continue
        ignored = optimizer not in (None, "multimodal")
        verdict: Verdict = "differs" if ignored else "carried"
        note = f"Theirs does not look at it with optimizer {optimizer}." if ignored else ""
        ledger.write(key, rate, f"tuning.{tower}.learning_rate", rate, verdict, note)


def _carry_towers(ledger: Ledger, kind: str) -> None:
    for tower, key in _FLAGS.items():
        frozen = ledger.take(key, as_bool)
        # lora_llm trains vision tower and merger in full, whatever the flags say.
        default = tower != "language" and kind != "lora_llm"
        mode = kind if kind != "lora_llm" else ("lora" if tower == "language" else "full")
        result = "freeze" if (default if frozen is None else frozen) else mode
        target = f"tuning.{tower}"
        if frozen is not None:
            ignored = kind == "lora_llm" and frozen
            note = "Theirs does not look at it with lora_llm, and trains it." if ignored else ""
            verdict: Verdict = "differs" if ignored else "carried"
            ledger.write(key, frozen, target, result, verdict, note)
        elif kind == "lora_llm" and tower != "language":
            ledger.write("tuner_type", kind, target, result, "carried", "In full, beside LoRA.")
        elif result != our_default(target):
            ledger.write_default(key, default, target, result)


def _carry_ends(ledger: Ledger) -> None:
    if mode_of(ledger, "language") == "freeze":
        return
    for tower in ("embeddings", "head"):
        ledger.put(f"tuning.{tower}", "full")
    note = "Embedding and head belong to the language model there, and train with it."
    ledger.row("tuner_type", "full", "tuning.embeddings, head", "full", "carried", note)


def _carry_lora(ledger: Ledger, kind: str, family: TrainableFamily | None) -> None:
    note = _NOT_PASSED_ON if kind == "lora_llm" else ""
    verdict: Verdict = "differs" if note else "carried"
    ledger.carry_all(
        {
            "lora_rank": Rule("tuning.lora.rank", as_int, default=8),
            "lora_alpha": Rule("tuning.lora.alpha", as_int, default=32),
            "lora_dropout": Rule(
                "tuning.lora.dropout", as_float, note, verdict, None if note else 0.05
            ),
            "use_dora": Rule("tuning.lora.dora", as_bool, note, verdict),
            "use_rslora": Rule("tuning.lora.rslora", as_bool, note, verdict),
        }
    )
    _carry_targets(ledger, family)
    modules = modules_of(family)
    key = "modules_to_save"
    for name in ledger.take(key, as_list) or []:
        if name == "all-norm":
            set_part(ledger, NamedPart("language", kind="norm"), "full")
            said = "The decoder's norms; theirs trains those of frozen towers too."
            ledger.row(key, name, "tuning.language.parts", "norm: full", "differs", said)
            continue
        parts = [NamedPart("embeddings")] if name == "all-embedding" else parts_named(name, modules)
        endings = "deepstack_merger_list" if len(modules.projectors) > 1 else ""
        carry_saved(ledger, key, name, parts, endings)


def _carry_targets(ledger: Ledger, family: TrainableFamily | None) -> None:
    expression = ledger.take("target_regex", as_text)
    names = ledger.take("target_modules", as_list)
    if expression is not None:
        if names is not None:
            ledger.none("target_modules", names, "Without effect there too: target_regex decides.")
        _carry_explicit(ledger, "target_regex", expression, family)
    elif names is not None and set(names) & {"all-linear", "all-embedding"}:
        note = "Of what is set to lora."
        if "all-embedding" in names:
            ledger.put("tuning.embeddings", "lora")
            note = "The token embedding too; refused where the head is tied to it."
        ledger.row("target_modules", names, "tuning", "per tower", "carried", note)
    elif names is not None:
        _carry_explicit(ledger, "target_modules", names, family)


def _carry_explicit(
    ledger: Ledger, key: str, given: list[str] | str, family: TrainableFamily | None
) -> None:
    modules = modules_of(family)
    towers: dict[TowerName, tuple[bool, bool]] = {
        tower: (mode_of(ledger, tower) == "lora", ledger.asked(flag, as_bool) is not None)
        for tower, flag in _FLAGS.items()
    }
    try:
        targets = name_targets(given, towers, modules)
    except ValueError as error:
        raise ledger.error(key, f"{given!r} is given; {error}.", "Mend it there.") from None
    said = _follow(ledger, targets)
    reached = towers_hit(given, modules)
    left = [t for t in _FLAGS if t in reached and mode_of(ledger, t) == "freeze"]
    if not left and mode_of(ledger, "vision") == "freeze" and may_hit_vision(given, modules):
        left = ["the vision tower of Qwen2.5-VL"]
    if left:
        said.append(
            f"Theirs adapts {' and '.join(left)} too: its freeze flags count with all-linear alone."
        )
    verdict: Verdict = "differs" if said else "carried"
    ledger.write(key, given, "tuning.lora.target_modules", targets.value, verdict, " ".join(said))


def _follow(ledger: Ledger, targets: Targets) -> list[str]:
    """Let towers train, or not, as explicit targets ask for; says what was done."""
    said = []
    for tower in targets.added:
        said.append(f"Theirs names nothing in {tower}, which is not frozen; here all of it.")
    for tower in targets.joined:
        ledger.put(f"tuning.{tower}", "lora")
        said.append(f"It names layers of {tower}, which trains therefore.")
    for tower in targets.idle:
        ledger.put(f"tuning.{tower}", "freeze")
        said.append(f"It names nothing in {tower}, which is frozen therefore.")
    return said


def _carry_bits(ledger: Ledger, kind: str) -> None:
    key = "quant_bits"
    bits, method = ledger.take(key, as_int), ledger.take("quant_method", as_text)
    if bits is None or method is None:
        for name, value in ((key, bits), ("quant_method", method)):
            if value is not None:
                ledger.none(
                    name, value, "Without effect there too: it takes both, bits and method."
                )
        return
    if kind == "full":
        ledger.none(key, bits, "Quantised weights cannot be trained in full: the run goes without.")
        ledger.none("quant_method", method, "The run goes without.")
        return
    storage = ledger.take("bnb_4bit_quant_type", as_text)
    if storage not in (None, "nf4", "fp4"):
        raise ledger.error("bnb_4bit_quant_type", f"it is {storage}, not nf4 or fp4.", "Mend it.")
    carry_quantization(ledger, key, bits, storage or "nf4", method, "")
    result = ledger.values["tuning"]["quantization"]
    ledger.row("quant_method", method, "tuning.quantization", result, "carried", "")
    if storage is not None:
        ledger.row("bnb_4bit_quant_type", storage, "tuning.quantization", result, "carried", "")
