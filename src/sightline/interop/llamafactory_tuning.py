"""What LLaMA-Factory's words for tuning mean, as a plan by towers.

Reference: hparams/finetuning_args.py, model/adapter.py and model/model_utils/visual.py of
LLaMA-Factory 0.9.5, for train_mm_proj_only of 0.9.1;
tests/unit/interop/test_llamafactory_tuning.py.
"""

from __future__ import annotations

from sightline.config import TowerName
from sightline.families import TrainableFamily
from sightline.interop.given_values import as_bool, as_float, as_int, as_list, as_text
from sightline.interop.imported import THEIR_DEFAULT, Verdict
from sightline.interop.layer_names import NamedPart, modules_of, parts_named
from sightline.interop.ledger import Ledger, Rule, our_default
from sightline.interop.lora_targets import by_parts_of_names, name_targets
from sightline.interop.tower_plan import (
    carry_quantization,
    carry_saved,
    match_tied,
    mode_of,
    set_part,
    tower_value,
)

_METHODS = ("lora", "full", "freeze")
_FLAGS: dict[TowerName, tuple[str, bool]] = {
    "vision": ("freeze_vision_tower", True),
    "projector": ("freeze_multi_modal_projector", True),
    "language": ("freeze_language_model", False),
}
_NORMS = ("input_layernorm", "post_attention_layernorm")
_LORA_KEYS = (
    "lora_rank lora_alpha lora_dropout lora_target additional_target use_dora use_rslora "
    "loraplus_lr_ratio loraplus_lr_embedding pissa_init pissa_iter pissa_convert"
)
_FREEZE_KEYS = "freeze_trainable_layers freeze_trainable_modules freeze_extra_modules"

LLAMAFACTORY_TUNING_REASONS: dict[str, str] = {
    "LoRA's factors have one learning rate here, tuning's own.": (
        "loraplus_lr_ratio loraplus_lr_embedding"
    ),
    "The factors begin as LoRA's do: nothing is changed at the first step.": (
        "pissa_init pissa_iter pissa_convert"
    ),
    "Decides what the quantised weights take and where they are, not what is learnt.": (
        "double_quantization quantization_device_map"
    ),
    "Says nothing without quantization_bit.": "quantization_method quantization_type",
}


def carry_tuning(ledger: Ledger, family: TrainableFamily | None) -> None:
    """Carry over what trains.

    Args:
        ledger: What is filled.
        family: The model's family, where it can be told.

    Raises:
        ConfigError: The method is another one, or a value is none.
    """
    method = ledger.take("finetuning_type", as_text)
    if method is not None and method not in _METHODS:
        raise ledger.error(
            "finetuning_type",
            f"it is {method}, and Sightline knows {', '.join(_METHODS)}.",
            "Choose one of them there, or write run.yaml by hand: sightline config --explain.",
        )
    used = method or "lora"
    deepstack = "the deepstack mergers" if len(modules_of(family).projectors) > 1 else ""
    if not _carry_projector_alone(ledger):
        _carry_towers(ledger, used, deepstack)
        if used == "freeze":
            _carry_layers(ledger, family)
    if method is not None:
        note = "Each tower says by itself how it trains."
        language = tower_value(ledger, "language")
        ledger.row("finetuning_type", method, "tuning.language", language, "carried", note)
    if used == "lora":
        _carry_lora(ledger, family, deepstack)
    for keys, holds in ((_LORA_KEYS, "lora"), (_FREEZE_KEYS, "freeze")):
        for key in keys.split():
            if used != holds and ledger.given.get(key) is not None:
                value = ledger.take(key)
                ledger.none(key, value, f"Without effect there too: it belongs to {holds}.")
    _carry_bits(ledger, used)


def _carry_projector_alone(ledger: Ledger) -> bool:
    """Older releases' word for training the projector, and nothing else."""
    key = "train_mm_proj_only"
    alone = ledger.take(key, as_bool)
    if not alone:
        if alone is False:
            ledger.none(key, False, "It says nothing: the other keys decide.")
        return False
    for tower in ("vision", "language", "embeddings", "head"):
        ledger.put(f"tuning.{tower}", "freeze")
    for tower, (flag, _) in _FLAGS.items():
        given = ledger.take(flag, as_bool)
        if given is not None:
            ledger.none(flag, given, f"{key} decides: {tower} is as it says.")
    note = "The projector in full, all else frozen. Releases after 0.9.1 do not know the key."
    ledger.write(key, True, "tuning.projector", "full", "differs", note)
    return True


def _carry_towers(ledger: Ledger, method: str, deepstack: str) -> None:
    mode = "lora" if method == "lora" else "full"
    given = {tower: ledger.take(flag, as_bool) for tower, (flag, _) in _FLAGS.items()}
    trains: dict[TowerName, bool] = {
        tower: not (default if given[tower] is None else given[tower])
        for tower, (_, default) in _FLAGS.items()
    }
    for tower, (flag, default) in _FLAGS.items():
        target, frozen = f"tuning.{tower}", given[tower]
        result = mode if trains[tower] else "freeze"
        notes = _differences(tower, method, trains, deepstack)
        if method == "freeze" and tower == "language" and trains[tower]:
            ledger.put(target, "freeze")
            if frozen is not None:
                ledger.none(flag, frozen, "The layers that train are chosen one by one.")
        elif frozen is not None:
            verdict: Verdict = "differs" if notes else "carried"
            ledger.write(flag, frozen, target, result, verdict, notes)
        elif result != our_default(target):
            ledger.write_default(flag, default, target, result, notes)
        else:
            ledger.put(target, result)
    for tower in ("embeddings", "head"):
        ledger.put(f"tuning.{tower}", "freeze")
    if method == "full" and trains["language"]:
        for tower in ("embeddings", "head"):
            ledger.put(f"tuning.{tower}", "full")
        note = "Embedding and head belong to the language model there, and train with it."
        ledger.row("finetuning_type", "full", "tuning.embeddings, head", "full", "carried", note)


def _differences(
    tower: TowerName, method: str, trains: dict[TowerName, bool], deepstack: str
) -> str:
    """Where the original would not do what its word says."""
    said = []
    if tower == "projector" and trains["projector"]:
        if method == "lora":
            said.append("Theirs reaches it only where its layers are named as other towers' are.")
        if deepstack and (method == "freeze" or not trains["vision"]):
            said.append(f"Theirs counts {deepstack} to the vision tower, and leaves them frozen.")
    if tower == "vision" and trains["vision"]:
        if method == "freeze":
            said.append("Theirs trains only its blocks that bear the chosen decoder's numbers.")
        elif deepstack and not trains["projector"]:
            said.append(f"Theirs counts {deepstack} to it; here they stay frozen with the merger.")
    return " ".join(said)


def _carry_layers(ledger: Ledger, family: TrainableFamily | None) -> None:
    """``freeze``: some of the decoder's layers train in full."""
    key = "freeze_trainable_layers"
    given = ledger.take(key, as_int)
    count = 2 if given is None else given
    names = ledger.take("freeze_trainable_modules", as_list) or ["all"]
    blocks = f"{'last' if count > 0 else 'first'} {abs(count)}"
    kinds = _kinds(ledger, names)
    if ledger.asked(_FLAGS["language"][0], as_bool):
        ledger.none(key, count, "Without effect there too: freeze_language_model is true.")
    else:
        for kind in kinds if count else []:
            set_part(ledger, NamedPart("language", blocks, kind), "full")
        note = f"{THEIR_DEFAULT}." if given is None else ""
        result = blocks if count else "freeze"
        verdict: Verdict = "differs" if given is None else "carried"
        ledger.row(key, count, "tuning.language.parts", result, verdict, note)
    for name in ledger.take("freeze_extra_modules", as_list) or []:
        parts = parts_named(name, modules_of(family))
        if name in ("linear_fc1", "linear_fc2", "ln_q"):
            parts = [NamedPart("projector")] if mode_of(ledger, "projector") == "full" else []
        carry_saved(ledger, "freeze_extra_modules", name, parts, "")


def _kinds(ledger: Ledger, names: list[str]) -> list[str | None]:
    key, target = "freeze_trainable_modules", "tuning.language.parts"
    found: dict[str | None, None] = {}
    for name in names:
        if name == "all":
            found[None] = None
            continue
        kind = {"self_attn": "attention", "mlp": "mlp"}.get(name)
        if kind is None and name in _NORMS:
            kind = "norm"
            note = "Both norms of a layer here." if not set(_NORMS) <= set(names) else ""
            ledger.row(key, name, target, kind, "differs" if note else "carried", note)
        elif kind is None:
            ledger.none(key, name, "No kind of layer here: write tuning.language.parts.")
            continue
        else:
            ledger.row(key, name, target, kind, "carried", "")
        found[kind] = None
    return list(found)


def _carry_lora(ledger: Ledger, family: TrainableFamily | None, deepstack: str) -> None:
    ledger.carry("lora_rank", Rule("tuning.lora.rank", as_int, default=8))
    alpha = 2 * ledger.values["tuning"]["lora"]["rank"]
    if ledger.given.get("lora_alpha") is None and alpha != our_default("tuning.lora.alpha"):
        note = "Twice lora_rank there."
        ledger.write_default("lora_alpha", alpha, "tuning.lora.alpha", alpha, note)
    ledger.carry_all(
        {
            "lora_alpha": Rule("tuning.lora.alpha", as_int),
            "lora_dropout": Rule("tuning.lora.dropout", as_float),
            "use_dora": Rule("tuning.lora.dora", as_bool),
            "use_rslora": Rule("tuning.lora.rslora", as_bool),
        }
    )
    target = ledger.take("lora_target", as_list)
    if target == ["all"]:
        ledger.row("lora_target", "all", "tuning", "per tower", "carried", "All linear layers.")
    elif target is not None:
        _carry_target(ledger, target, family)
    for name in ledger.take("additional_target", as_list) or []:
        parts = parts_named(name, modules_of(family))
        carry_saved(ledger, "additional_target", name, parts, deepstack)


def _carry_target(ledger: Ledger, names: list[str], family: TrainableFamily | None) -> None:
    key, modules = "lora_target", modules_of(family)
    towers: dict[TowerName, tuple[bool, bool]] = {
        tower: (mode_of(ledger, tower) == "lora", ledger.asked(flag, as_bool) is not None)
        for tower, (flag, _) in _FLAGS.items()
    }
    given = by_parts_of_names(names, [t for t, (trains, _) in towers.items() if trains], modules)
    targets = name_targets(given, towers, modules)
    said = []
    if isinstance(given, str):
        said.append("Theirs takes it wherever it stands in a name, so here it is an expression.")
    for tower in targets.added:
        said.append(f"Theirs names nothing in {tower}, which is not frozen; here all of it.")
    for tower in targets.idle:
        ledger.put(f"tuning.{tower}", "freeze")
        said.append(f"It names nothing in {tower}, which is frozen therefore.")
    verdict: Verdict = "differs" if said else "carried"
    note = " ".join(said) or "Among the layers of what is set to lora."
    ledger.write(key, names, "tuning.lora.target_modules", targets.value, verdict, note)
    match_tied(ledger, key)


def _carry_bits(ledger: Ledger, method: str) -> None:
    key = "quantization_bit"
    bits = ledger.take(key, as_int)
    if bits is None:
        return
    how = ledger.take("quantization_method", as_text)
    kind = ledger.take("quantization_type", as_text)
    if method != "lora":
        ledger.none(key, bits, f"Theirs refuses it with {method}, and so would a run here.")
        return
    if kind not in (None, "nf4", "fp4"):
        raise ledger.error("quantization_type", f"it is {kind}, not nf4 or fp4.", "Mend it there.")
    note = "Theirs holds the vision tower so too; here the language model's frozen weights alone."
    name = {None: "bnb", "bitsandbytes": "bnb"}.get(how, how) or "bnb"
    carry_quantization(ledger, key, bits, kind or "nf4", name, note)
    for other, value in (("quantization_method", how), ("quantization_type", kind)):
        if value is not None:
            result = ledger.values["tuning"]["quantization"]
            ledger.row(other, value, "tuning.quantization", result, "carried", "")
