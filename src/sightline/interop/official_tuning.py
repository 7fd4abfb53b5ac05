"""What the official script's words for tuning mean, as a plan by towers.

Reference: train_qwen.py, argument.py and trainer.py of QwenLM's qwen-vl-finetune, commit 96588727;
tests/unit/interop/test_official_tuning.py.
"""

from __future__ import annotations

from sightline.config import TowerName
from sightline.families import TrainableFamily
from sightline.interop.given_values import as_bool, as_float, as_int
from sightline.interop.imported import Verdict
from sightline.interop.layer_names import modules_of
from sightline.interop.ledger import Ledger, Rule, our_default
from sightline.interop.tower_plan import does_train

_FLAGS: dict[str, TowerName] = {
    "tune_mm_llm": "language",
    "tune_mm_mlp": "projector",
    "tune_mm_vision": "vision",
}
_LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
_FROZEN_BY_LORA = "lora_enable freezes it there, whatever the flag says; here it trains as it says."


def carry_tuning(ledger: Ledger, family: TrainableFamily | None) -> None:
    """Carry over what trains, and at which rates.

    Args:
        ledger: What is filled.
        family: The model's family, where it can be told.

    Raises:
        ConfigError: A value is none.
    """
    lora = ledger.take("lora_enable", as_bool)
    if lora:
        _carry_lora(ledger)
    else:
        if lora is False:
            ledger.none("lora_enable", False, "Each tower says by itself how it trains.")
        for key in ("lora_r", "lora_alpha", "lora_dropout"):
            value = ledger.take(key)
            if value is not None:
                ledger.none(key, value, "Without effect there too: lora_enable is false.")
        _carry_full(ledger, has_deepstack=len(modules_of(family).projectors) > 1)
    _carry_rates(ledger, is_lora=bool(lora))


def _carry_full(ledger: Ledger, *, has_deepstack: bool) -> None:
    for key, tower in _FLAGS.items():
        given = ledger.take(key, as_bool)
        result, target = "full" if given else "freeze", f"tuning.{tower}"
        if given is not None:
            note = ""
            if tower == "projector" and has_deepstack:
                note = "Theirs counts the deepstack mergers of Qwen3-VL to the vision tower."
            verdict: Verdict = "differs" if note else "carried"
            ledger.write(key, given, target, result, verdict, note)
        elif result != our_default(target):
            ledger.write_default(key, False, target, result)
    language = ledger.values["tuning"]["language"]
    for tower in ("embeddings", "head"):
        ledger.put(f"tuning.{tower}", language)
    if language == "full":
        note = "Embedding and head belong to the language model there, and train with it."
        ledger.row("tune_mm_llm", True, "tuning.embeddings, head", "full", "carried", note)
    else:
        note = (
            "Theirs goes on training a head that is not tied to the embedding: it sets the flag on "
            "the module, where it holds for no weight."
        )
        ledger.row("tune_mm_llm", False, "tuning.head", "freeze", "differs", note)


def _carry_lora(ledger: Ledger) -> None:
    note = "The four linear layers of the decoder's attention, as in their code."
    target = "tuning.lora.target_modules"
    ledger.write("lora_enable", True, "tuning.language", "lora", "carried", "The decoder alone.")
    ledger.write("lora_enable", "(targets)", target, _LORA_TARGETS, "carried", note)
    for key, tower in _FLAGS.items():
        given = ledger.take(key, as_bool)
        if tower == "language":
            if given is not None:
                ledger.none(key, given, "Without effect there too: lora_enable adapts the decoder.")
        elif given:
            ledger.write(key, given, f"tuning.{tower}", "full", "differs", _FROZEN_BY_LORA)
        elif given is False:
            ledger.write(key, given, f"tuning.{tower}", "freeze", "carried", "")
        elif our_default(f"tuning.{tower}") != "freeze":
            said = "lora_enable freezes it there."
            ledger.write_default(key, False, f"tuning.{tower}", "freeze", said)
        else:
            ledger.put(f"tuning.{tower}", "freeze")
    ledger.carry_all(
        {
            "lora_r": Rule("tuning.lora.rank", as_int, default=64),
            "lora_alpha": Rule("tuning.lora.alpha", as_int, default=128),
        }
    )
    dropout = ledger.take("lora_dropout", as_float)
    if dropout:
        ledger.write("lora_dropout", dropout, "tuning.lora.dropout", dropout, "carried", "")
    elif dropout is None:
        note = "Their code turns 0 into 0.05."
        ledger.write_default("lora_dropout", 0.0, "tuning.lora.dropout", 0.05, note)
    else:
        note = "As it says; their code turns 0 into 0.05."
        ledger.write("lora_dropout", dropout, "tuning.lora.dropout", dropout, "differs", note)


def _carry_rates(ledger: Ledger, *, is_lora: bool) -> None:
    """Rates of their own; 0 stands for none."""
    towers: dict[str, TowerName] = {"mm_projector_lr": "projector", "vision_tower_lr": "vision"}
    has_first = bool(ledger.asked("mm_projector_lr", as_float))
    for key, tower in towers.items():
        rate = ledger.take(key, as_float)
        if rate is None:
            continue
        if rate == 0:
            ledger.none(key, rate, "0 is none: the rate is training.learning_rate.")
        elif not does_train(ledger, tower):
            ledger.none(key, rate, f"Without effect there too: {tower} is frozen.")
        else:
            note = ""
            if is_lora:
                note = "Theirs has nothing to use it on: lora_enable freezes the tower."
            elif tower == "vision" and not has_first:
                note = "Theirs looks at it only beside mm_projector_lr."
            verdict: Verdict = "differs" if note else "carried"
            ledger.write(key, rate, f"tuning.{tower}.learning_rate", rate, verdict, note)
