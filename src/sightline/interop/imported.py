"""What becomes of another tool's configuration: values for a run.yaml, and a row for every key.

A `Ledger` is filled by the reader of one tool. Every key of the file ends in a row or
more, so nothing is dropped unseen; a default of the other tool that changes the result gets a row
and is written out too.
"""

from __future__ import annotations

import json
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from sightline.config import RunConfig
from sightline.config.faults import describe
from sightline.config.read import Lines, dotted, dump_yaml
from sightline.errors import ConfigError
from sightline.families import TrainableFamily, trainable_family_of

Verdict = Literal["carried", "differs", "none"]
VERDICTS: tuple[Verdict, ...] = ("carried", "differs", "none")
THEIR_DEFAULT = "their default"
_WIDTH = 78


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What became of one key.

    Attributes:
        key: The other tool's name of it.
        value: Its value there.
        target: The key of run.yaml; None where there is no counterpart.
        result: The value in run.yaml.
        verdict: carried: the same meaning. differs: another meaning, default or unit. none: no
            counterpart.
        note: What differs, why it does not matter, or what to do. It begins with "their default"
            where the file did not give the key.
    """

    key: str
    value: Any
    target: str | None
    result: Any
    verdict: Verdict
    note: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A run configuration made of another tool's.

    Attributes:
        tool: ``llamafactory``, ``swift`` or ``official``.
        source: The file that was read.
        values: Nested values of run.yaml.
        rows: What became of each key, in the order of the verdicts.
    """

    tool: str
    source: Path
    values: dict[str, Any]
    rows: list[Carried]

    def count(self, verdict: Verdict) -> int:
        """How many rows have a verdict."""
        return sum(row.verdict == verdict for row in self.rows)


class Rule(NamedTuple):
    """How one key is carried over.

    Attributes:
        target: The key of run.yaml.
        convert: Turns the given value into ours; a ValueError says what is expected instead.
        note: What to know about it.
        verdict: Whether the meaning is the same.
        default: The other tool's default, written out where it is not ours; None: it is not.
    """

    target: str
    convert: Callable[[Any], Any]
    note: str = ""
    verdict: Verdict = "carried"
    default: Any = None


@dataclass
class Ledger:
    """Keys of another tool's file, each taken once, and what became of them.

    Args:
        tool: Name of the tool.
        source: The file.
        given: Its keys.
        folder: Folder of the run.yaml, which its paths are relative to.
    """

    tool: str
    source: Path
    given: dict[str, Any]
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    rows: list[Carried] = field(default_factory=list)

    def take(self, key: str, convert: Callable[[Any], Any] | None = None) -> Any:
        """The value of a key, which then counts as read; None where it is not given, or null.

        Raises:
            ConfigError: The value is not what ``convert`` expects.
        """
        value = self.given.pop(key, None)
        return value if value is None or convert is None else self.convert(key, value, convert)

    def convert(self, key: str, value: Any, convert: Callable[[Any], Any]) -> Any:
        """A value of the file as ours.

        Raises:
            ConfigError: It is not what ``convert`` expects.
        """
        try:
            return convert(value)
        except ValueError as error:
            raise self.error(key, f"{value!r} is given; {error}.", "Mend it there.") from None

    def error(self, key: str, problem: str, fix: str) -> ConfigError:
        """An error with the file and the key."""
        return ConfigError(f"{self.source}: {key}: {problem}\n{fix}")

    def put(self, target: str, result: Any) -> None:
        """Write a value of run.yaml."""
        *sections, last = target.split(".")
        section = self.values
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = result

    def row(
        self, key: str, value: Any, target: str | None, result: Any, verdict: Verdict, note: str
    ) -> None:
        """Say what became of a key, without writing a value."""
        self.rows.append(
            Carried(key=key, value=value, target=target, result=result, verdict=verdict, note=note)
        )

    def write(
        self, key: str, value: Any, target: str, result: Any, verdict: Verdict, note: str
    ) -> None:
        """Write a value of run.yaml, and say so."""
        self.put(target, result)
        self.row(key, value, target, result, verdict, note)

    def none(self, key: str, value: Any, note: str) -> None:
        """Say that a key has no counterpart."""
        self.row(key, value, None, None, "none", note)

    def carry(self, key: str, rule: Rule) -> None:
        """Carry one key over by its rule; where it is not given, write the other tool's default."""
        value = self.take(key)
        if value is not None:
            renamed = rule.target.rsplit(".", 1)[-1] != key
            note = rule.note or ("Same meaning under another name." if renamed else "")
            result = self.convert(key, value, rule.convert)
            self.write(key, value, rule.target, result, rule.verdict, note)
        elif rule.default is not None and rule.default != our_default(rule.target):
            self.write_default(key, rule.default, rule.target, rule.default, rule.note)

    def write_default(self, key: str, value: Any, target: str, result: Any, note: str = "") -> None:
        """Write a default of the other tool that is not ours, and say so."""
        ours = our_default(target)
        words = "the model's own" if ours is None else shown(ours)
        said = f"{THEIR_DEFAULT}; ours is {words}. {note}".rstrip()
        self.write(key, value, target, result, "differs", said)

    def carry_all(self, rules: Mapping[str, Rule]) -> None:
        """Carry several keys over."""
        for key, rule in rules.items():
            self.carry(key, rule)

    def done(self, reasons: Mapping[str, str], unknown: str) -> Imported:
        """Give every key that is left a row, validate, and hand the result over.

        Args:
            reasons: Why keys have no counterpart: a sentence, and the keys it holds for, in one
                text with spaces.
            unknown: What to say of a key that is in none of them.

        Raises:
            ConfigError: The values are no run configuration.
        """
        by_key = {key: reason for reason, keys in reasons.items() for key in keys.split()}
        for key, value in self.given.items():
            self.none(key, value, by_key.get(key, unknown))
        self.given = {}
        order = sorted(self.rows, key=lambda row: VERDICTS.index(row.verdict))
        imported = Imported(
            tool=self.tool, source=self.source, values=_in_our_order(self.values), rows=order
        )
        validated(imported)
        return imported

    def path(self, path: Path) -> str:
        """A path as run.yaml writes it: relative to its folder, where they share one."""
        return portable(path, self.folder)

    def found(self, text: str) -> Path:
        """A path of the file, which the other tool takes relative to its working directory.

        It is looked for below this working directory, then beside the file.
        """
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            path = Path(text)
        beside = self.source.absolute().parent / path
        here = Path.cwd() / path
        try:
            return beside if not here.exists() and beside.exists() else here
        except OSError as error:
            raise ConfigError(
                f"{self.source}: {shown(text)}: it cannot be looked for: {error.strerror}.\n"
                "Correct the path there."
            ) from error


def portable(path: Path, folder: Path) -> str:
    """A path relative to a folder; absolute where they have only the root in common."""
    target, start = (os.path.normpath(place.absolute()) for place in (path, folder))
    if os.path.commonpath([target, start]) == os.path.sep:
        return target
    return os.path.relpath(target, start)


def our_default(target: str) -> Any:
    """The default of a key of run.yaml.

    >>> our_default("tuning.lora.rank")
    16
    """
    *sections, last = target.split(".")
    section: type[BaseModel] = RunConfig
    for name in sections:
        annotation = section.model_fields[name].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return section.model_fields[last].default


def validated(imported: Imported) -> RunConfig:
    """The run configuration that the values make.

    Raises:
        ConfigError: Lists every fault, with the file and the key that it comes from.
    """
    try:
        return RunConfig.model_validate(imported.values)
    except ValidationError as error:
        keys = {row.target: row.key for row in imported.rows if row.target}
        faults = []
        for fault in error.errors():
            key = keys.get(dotted(fault["loc"]))
            where = f"{imported.source}: {key}" if key else f"{imported.source}"
            faults.append(describe(fault, Lines(where)))
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None


def render_yaml(imported: Imported) -> str:
    """The run.yaml, with what differs and what was left out as comments at its head."""
    head = [f"Made by `sightline import {imported.tool} {imported.source}`.", ""]
    for verdict, title in (("differs", "Not the same here:"), ("none", "Left out:")):
        rows = [row for row in imported.rows if row.verdict == verdict]
        if rows:
            head += [title, *(f"  {_sentence(row)}" for row in rows), ""]
    lines = [
        wrapped
        for line in head
        for wrapped in textwrap.wrap(line, _WIDTH, subsequent_indent="    ") or [""]
    ]
    comment = "\n".join(f"# {line}".rstrip() for line in lines[:-1])
    return f"{comment}\n\n{_marked(imported)}"


def _sentence(row: Carried) -> str:
    result = f" -> {row.target}" if row.target else ""
    return f"{shown(row.key)} = {shown(row.value)}{result}: {row.note}"


def shown(value: Any) -> str:
    """A value on one line, as YAML writes it.

    What a terminal or a YAML comment cannot show is a question mark.

    >>> shown(True), shown(None), shown(["a", 1])
    ('true', 'null', '[a, 1]')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def _marked(imported: Imported) -> str:
    """The values as YAML; the other tool's defaults say that they are its."""
    marked = {row.target for row in imported.rows if row.note.startswith(THEIR_DEFAULT)}
    place: list[str] = []
    lines = []
    for line in dump_yaml(imported.values).splitlines():
        found = re.match(r"( *)(\w+):(.*)", line)
        if found:
            place = [*place[: len(found[1]) // 2], found[2]]
        is_default = found is not None and found[3] and ".".join(place) in marked
        lines.append(f"{line}  # {THEIR_DEFAULT}" if is_default else line)
    return "\n".join(lines) + "\n"


def _in_our_order(values: dict[str, Any]) -> dict[str, Any]:
    """The sections in the order in which `sightline config --explain` lists them."""
    order = list(RunConfig.model_fields)
    return dict(sorted(values.items(), key=lambda item: order.index(item[0])))


def family_of_model(model: str, folder: Path | None) -> TrainableFamily | None:
    """The family of a model; None where only its download would tell.

    Args:
        model: What the file names.
        folder: Its folder, where it is one.

    Raises:
        ModelError: The folder holds a model that Sightline does not train.
    """
    if folder is None:
        # A hub id does not prove a family: this only chooses the words of a note and a unit.
        plain = re.sub(r"[^a-z0-9]", "", model.lower())
        named = {"qwen3vl": "qwen3_vl", "qwen25vl": "qwen2_5_vl", "qwen2vl": "qwen2_vl"}
        key = next((key for name, key in named.items() if name in plain), None)
        return None if key is None else trainable_family_of(key, source=model)
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: config.json of the model cannot be read: {error}.\nName a model folder."
        ) from error
    model_type = content.get("model_type") if isinstance(content, dict) else None
    return trainable_family_of(str(model_type), source=str(folder))


def carry_model(ledger: Ledger, key: str) -> TrainableFamily | None:
    """Carry the model over.

    Returns:
        Its family, where it can be told.

    Raises:
        ConfigError: There is none.
        ModelError: It is a folder of a family that Sightline does not train.
    """
    model = ledger.take(key, as_text)
    if model is None:
        raise ledger.error(key, "the key is missing.", "Name the model that is fine-tuned.")
    if model.startswith("tiny:"):
        ledger.write(key, model, "model", model, "carried", "")
        return trainable_family_of(model.removeprefix("tiny:"), source=model)
    folder = ledger.found(model)
    if folder.is_dir():
        family, result = family_of_model(model, folder), ledger.path(folder)
        # A folder beside run.yaml must not read as a hub id on a machine that lacks it.
        result = result if result.startswith((".", "/")) else f"./{result}"
    else:
        family, result = family_of_model(model, None), model
    note = "" if family else "Whether its family can be trained is seen when the run loads it."
    ledger.write(key, model, "model", result, "carried", note)
    return family


def carry_video_pixels(
    ledger: Ledger,
    key: str,
    target: str,
    pixels: int,
    family: TrainableFamily | None,
    frames: int | None,
    *,
    is_default: bool = False,
) -> None:
    """Carry a pixel limit of one video frame over.

    Args:
        ledger: What is filled.
        key: The other tool's key.
        target: ``data.videos.min_pixels`` or ``max_pixels``.
        pixels: The limit, of one frame.
        family: The model's family.
        frames: Most frames of a video, where the file bounds them.
        is_default: Whether the limit is the other tool's default.
    """
    if family is None or family.video_budget == "per_frame":
        note = "Theirs is always for one frame; here, with Qwen3-VL, for all frames together."
        if is_default:
            ledger.write_default(key, pixels, target, pixels, "" if family else note)
        else:
            verdict: Verdict = "carried" if family else "differs"
            ledger.write(key, pixels, target, pixels, verdict, "" if family else note)
    elif frames is not None and target.endswith("max_pixels"):
        note = f"Theirs is for one frame; {family.title}'s holds for all, so times {frames} frames."
        if is_default:
            ledger.write_default(key, pixels, target, pixels * frames, note)
        else:
            ledger.write(key, pixels, target, pixels * frames, "differs", note)
    else:
        said = f"{THEIR_DEFAULT}; " if is_default else ""
        note = f"for one frame there, for all frames together with {family.title} here. Set"
        ledger.none(key, pixels, f"{said}{note} {target} yourself.")


_SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup")


def carry_training(ledger: Ledger, defaults: Mapping[str, Any], accumulation: str) -> None:
    """Carry over what is transformers' in all three tools.

    Args:
        ledger: What is filled.
        defaults: The tool's defaults of these keys that change the result.
        accumulation: How its loss is averaged over the passes of a step; empty for our way.
    """
    _carry_odd_values(ledger)
    for key, rule in _trainer_rules(accumulation).items():
        ledger.carry(key, rule._replace(default=defaults.get(key)))
    _carry_scheduler(ledger, defaults["lr_scheduler_type"])
    _carry_warmup(ledger)
    _carry_precision(ledger)
    _carry_saving(ledger)
    trackers = ledger.take("report_to", as_list)
    if trackers is not None:
        named = [] if set(trackers) <= {"none", "all"} else trackers
        note = "all means every tracker installed; name them here." if "all" in trackers else ""
        verdict: Verdict = "differs" if note else "carried"
        ledger.write("report_to", trackers, "training.report_to", named, verdict, note)


def _trainer_rules(accumulation: str) -> dict[str, Rule]:
    how: Verdict = "differs" if accumulation else "carried"
    return {
        "num_train_epochs": Rule("training.epochs", as_float),
        "max_steps": Rule("training.max_steps", _as_limit),
        "learning_rate": Rule("training.learning_rate", as_float),
        "per_device_train_batch_size": Rule("training.batch_size", as_int),
        "gradient_accumulation_steps": Rule(
            "training.gradient_accumulation", as_int, accumulation, how
        ),
        "warmup_ratio": Rule("training.warmup_ratio", as_float),
        "weight_decay": Rule("training.weight_decay", as_float),
        "max_grad_norm": Rule("training.max_grad_norm", as_float),
        "seed": Rule("training.seed", as_int),
        "gradient_checkpointing": Rule("training.gradient_checkpointing", as_bool),
        "logging_steps": Rule("training.log_every", as_int),
        "save_total_limit": Rule("training.save_total_limit", as_int),
        "dataloader_num_workers": Rule("training.num_workers", as_int),
    }


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


TRAINER_REASONS: dict[str, str] = {
    "The optimizer is AdamW of torch, with its own betas.": (
        "optim adam_beta1 adam_beta2 adam_epsilon"
    ),
    "A run here is one process on one GPU, and is not sharded.": (
        "deepspeed fsdp fsdp_config ddp_timeout ddp_backend ddp_find_unused_parameters"
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
    "Nothing here does this: the run goes without it.": (
        "label_smoothing_factor neftune_noise_alpha group_by_length lr_scheduler_kwargs "
        "data_seed load_best_model_at_end metric_for_best_model early_stopping_steps"
    ),
}


def as_int(value: Any) -> int:
    """A whole number, also one in quotes or written as 4.0."""
    if type(value) is int:
        return value
    number = as_float(value)
    if number != int(number):
        raise ValueError("a whole number is expected")
    return int(number)


def as_float(value: Any) -> float:
    """A finite number, also one in quotes."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number is expected") from None
    if not math.isfinite(number):
        raise ValueError("a finite number is expected")
    return number


def as_bool(value: Any) -> bool:
    """True or false, also in quotes."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, list) or str(value).lower() not in words:
        raise ValueError("true or false is expected")
    return words[str(value).lower()]


def as_text(value: Any) -> str:
    """One text that is no unknown shell variable."""
    if isinstance(value, list | dict | bool) or not str(value):
        raise ValueError("one word or path is expected")
    if "$" in str(value):
        raise ValueError("the shell variable in it is not set in the file")
    return str(value)


def as_list(value: Any) -> list[str]:
    """A list of texts, also one text with commas."""
    items = value if isinstance(value, list) else as_text(value).split(",")
    return [as_text(item).strip() for item in items if item != ""]


def _as_limit(value: Any) -> int | None:
    number = as_int(value)
    return number if number > 0 else None
