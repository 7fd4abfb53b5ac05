"""Serving: what an engine takes from the exported files without being told by Sightline."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.errors import ModelError, VerifyError
from sightline.model import saved_tensors
from sightline.records import read_json
from sightline.tuning import place_of

_PREFIX = "base_model.model."
_LORA = ".lora_"
_ADAPTER = "An engine that loads adapters takes all of this one"


def stops_after_answers(context: VerifyContext) -> Finding:
    """The saved generation settings stop at the token with which every trained answer ends.

    An adapter has no such settings of its own: those of its base are looked at, and are no fault
    of the run.
    """
    tokenizer = context.checkpoint.processor.tokenizer
    closing = context.checkpoint.family.tokens.turn_end
    settings = context.plain_model.generation_config
    stops = stop_tokens(settings.eos_token_id if settings is not None else None)
    known = tokenizer.convert_tokens_to_ids(closing) in stops
    named = ", ".join(tokenizer.convert_ids_to_tokens(stops)) or "nothing"
    where = "merged/" if context.is_merged else f"{context.probe.base}/"
    return Finding(
        id="serving.stop_tokens",
        title="Generation stops where answers end",
        holds=known if context.is_merged else known or None,
        measured=f"it stops at {named}; answers end with {closing}",
        tolerance=f"{closing} among them",
        figures={"stop_tokens": stops},
        detail="" if known else f"{where}generation_config.json: eos_token_id",
        advice=""
        if known
        else f"Add the id of {closing} to eos_token_id, or give it to generate: the model writes "
        "on after its answer.",
    )


def stop_tokens(eos_token_id: int | list[int] | None) -> list[int]:
    """The ids at which a generation configuration stops, which has one, several or none.

    >>> stop_tokens(7), stop_tokens([7, 8]), stop_tokens(None)
    ([7], [7, 8], [])
    """
    if eos_token_id is None:
        return []
    return list(eos_token_id) if isinstance(eos_token_id, list) else [eos_token_id]


def adapter_in_engines(context: VerifyContext) -> Finding:
    """What of the adapter is more than LoRA on the language model, which all engines take.

    A verdict it cannot be: no engine is run here.
    """
    if not context.probe.uses_adapter:
        return Finding(
            id="serving.adapter",
            title=_ADAPTER,
            holds=None,
            measured="this run has no adapter: its weights were tuned in full",
        )
    lora, full, is_dora = _parts(context)
    more = [f"LoRA on {_layers(count)} of {tower}" for tower, count in lora.items()]
    taken = [part for part in more if part.endswith(" language")]
    more = [part for part in more if part not in taken]
    more += [f"{count} weights of {tower} in full" for tower, count in full.items()]
    more += ["DoRA"] if is_dora else []
    measured = f"it holds {' and '.join(taken)}" if taken else "it holds no LoRA on language"
    if more:
        measured += f"; also {', '.join(more)}, which engines may refuse or leave out"
    noted = bool(more) and not context.is_merged
    return Finding(
        id="serving.adapter",
        title=_ADAPTER,
        holds=None,
        measured=measured,
        tolerance="-",
        figures={"lora_layers": dict(lora), "weights_in_full": dict(full), "dora": is_dora},
        detail="vLLM refuses modules_to_save and DoRA, and leaves LoRA on vision tower and "
        "projector out unless it is started with enable_tower_connector_lora."
        if noted
        else "",
        advice="Serve it with PEFT, or compare the engine's answers with predictions.json."
        if noted
        else "",
    )


def _parts(context: VerifyContext) -> tuple[Counter[str], Counter[str], bool]:
    """Layers under LoRA and weights in full, by tower, and whether LoRA is DoRA."""
    folder, modules = context.run.adapter, context.checkpoint.family.modules
    try:
        names = [name.removeprefix(_PREFIX) for name in saved_tensors(folder)]
    except ModelError as error:
        raise VerifyError(f"{error}\nRestore the folder, or train the run again.") from error
    layers = {name.partition(_LORA)[0] for name in names if _LORA in name}
    config: Any = read_json(folder / "adapter_config.json")
    return (
        Counter(place_of(layer, modules).tower for layer in sorted(layers)),
        Counter(place_of(name, modules).tower for name in sorted(names) if _LORA not in name),
        bool(config.get("use_dora")),
    )


def _layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"
