"""A script of Qwen's own fine-tuning code (``train_qwen.py``) as a run configuration.

Scripts are read, never run: words, quotes, comments and plain ``name=value`` variables are
understood, and what a command would print is not known. Data sets are looked up in a Python file
of literals, which is parsed and never imported.

Reference: qwen-vl-finetune/ of QwenLM; tests/unit/interop/test_import_official.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from sightline.errors import ConfigError
from sightline.families import TrainableFamily
from sightline.interop.imported import (
    TRAINER_REASONS,
    Imported,
    Ledger,
    Rule,
    as_bool,
    as_float,
    as_int,
    as_list,
    carry_model,
    carry_output,
    carry_training,
    our_default,
)

_MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
_TRAINER_DEFAULTS = {
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
    "gradient_checkpointing": False,
}
_ACCUMULATION = (
    "A token mean over the whole step here; theirs is a mean of the passes' means with "
    "Qwen2.5-VL and Qwen3-VL."
)
_REASONS = TRAINER_REASONS | {
    "Samples are not packed here; the loss of each is the same without.": (
        "data_flatten data_packing"
    ),
    "Their code does not use it.": "base_interval",
    "Plain LoRA without biases, as their code has it.": "lora_bias lora_target_modules",
}
_DATASETS = Path("qwenvl/data/__init__.py")


def import_official(config: Path, *, folder: Path, datasets: Path | None = None) -> Imported:
    """Turn a script that starts ``train_qwen.py`` into a run configuration.

    Args:
        config: The shell script.
        folder: Folder of the run.yaml, which its paths are relative to.
        datasets: The Python file with ``data_dict``; None looks for ``qwenvl/data/__init__.py``
            below the working directory and beside the script's folder.

    Raises:
        ConfigError: The script or the file of data sets is missing or broken, or does not name
            what it should.
        ModelError: The model is a folder of a family that Sightline does not train.
    """
    command = read_command(config, _arguments, "train_qwen.py")
    ledger = Ledger("official", config, read_flags(command.words, config), folder)
    launched = _launch_options(command.words_before)
    if "model_name_or_path" not in ledger.given:
        ledger.given["model_name_or_path"] = _MODEL
    family = carry_model(ledger, "model_name_or_path")
    _carry_data(ledger, datasets)
    _carry_limits(ledger, family)
    _carry_tuning(ledger)
    carry_training(ledger, _TRAINER_DEFAULTS, _ACCUMULATION)
    ledger.carry_all(
        {
            "mm_projector_lr": Rule("training.projector_learning_rate", as_float),
            "vision_tower_lr": Rule("training.vision_learning_rate", as_float),
        }
    )
    carry_output(ledger, "runs/imported")
    say_processes(ledger, "nproc_per_node", launched.get("nproc_per_node"))
    return ledger.done(_REASONS, "This importer does not know the flag; it is left out.")


def say_processes(ledger: Ledger, key: str, given: Any) -> None:
    """Say that a run here is one process, where theirs is several."""
    if given in (None, "1", 1):
        return
    note = (
        "A run here is one process: for as many samples a step, multiply "
        "training.gradient_accumulation by it."
    )
    ledger.none(key, given, note)


def _carry_data(ledger: Ledger, datasets: Path | None) -> None:
    key = "dataset_use"
    names = ledger.take(key, as_list) or []
    if not names:
        raise ledger.error(key, "no data set is named.", "Write --dataset_use NAME there.")
    file = _datasets_file(ledger, datasets)
    known = read_datasets(file)
    sources = []
    for index, text in enumerate(names):
        name, _, percent = text.partition("%")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ledger.error(
                key, f"{file} has no data set {name!r}.{hint}", f"It has {', '.join(known)}."
            )
        source = _source(ledger, known[name])
        note = "" if (ledger.folder / source["path"]).exists() else "There is no such file here."
        if percent:
            source["weight"] = ledger.convert(key, percent, as_float) / 100
            note = f"{percent} % is weight {source['weight']:g}. {note}".rstrip()
        sources.append(source)
        ledger.row(key, text, f"data.train[{index}]", source["path"], "carried", note)
    ledger.put("data.train", sources)


def _source(ledger: Ledger, entry: Mapping[str, str]) -> dict[str, Any]:
    source: dict[str, Any] = {
        "path": ledger.path(ledger.found(entry["annotation_path"])),
        "format": "official",
    }
    if entry.get("data_path"):
        source["media_root"] = ledger.path(ledger.found(entry["data_path"]))
    else:
        # An empty data_path leaves media paths as they are: relative to the working directory.
        source["media_root"] = ledger.path(Path.cwd())
    return source


def _datasets_file(ledger: Ledger, datasets: Path | None) -> Path:
    if datasets is not None:
        return datasets
    for folder in (Path.cwd(), *list(ledger.source.absolute().parents)[:3]):
        if (folder / _DATASETS).is_file():
            return folder / _DATASETS
    raise ledger.error(
        "dataset_use",
        f"no {_DATASETS} is found, which says where its data sets are.",
        "Name the Python file that holds data_dict with --datasets.",
    )


def read_datasets(file: Path) -> dict[str, dict[str, str]]:
    """The ``data_dict`` of a Python file, of literals alone; the file is not imported.

    Returns:
        ``annotation_path`` and ``data_path`` by the data set's name.

    Raises:
        ConfigError: The file is missing, is no Python, or does not spell its data sets out.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: the file cannot be read: {error.strerror}.") from error
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: this is not Python: {error}.") from error
    values: dict[str, Any] = {}
    for statement in tree.body:
        name, node = _assigned(statement)
        if name is not None and node is not None:
            values[name] = _literal(node, values)
    known = values.get("data_dict")
    fix = 'Write data_dict = {"name": {"annotation_path": "...", "data_path": "..."}}.'
    if not isinstance(known, dict) or not known:
        raise ConfigError(f"{file}: data_dict: it is missing, or no dict of literals.\n{fix}")
    for name, entry in known.items():
        path = entry.get("annotation_path") if isinstance(entry, dict) else None
        root = entry.get("data_path", "") if isinstance(entry, dict) else ""
        if not isinstance(name, str) or not isinstance(path, str) or not isinstance(root, str):
            raise ConfigError(f"{file}: data_dict[{name!r}]: no literal annotation_path.\n{fix}")
    return known


def _assigned(statement: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.value
    return None, None


def _literal(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """The value of a literal, or of a name of one; None where it would have to be computed."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return values.get(node.id)
        case ast.JoinedStr():
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            return "".join(map(str, parts)) if len(parts) == len(node.values) else None
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {
                _literal(key, values): _literal(item, values)
                for key, item in pairs
                if isinstance(key, ast.Constant)
            }
    return None


def _carry_limits(ledger: Ledger, family: TrainableFamily | None) -> None:
    cut = "Theirs cuts what is longer, through images too; here data.fit makes it fit, whole."
    field_of = "The processor's own field, as there: a frame's, or all frames' with Qwen3-VL."
    flat = any(as_flag(ledger.given.get(key)) for key in ("data_flatten", "data_packing"))
    if flat:
        cut = "With data_flatten theirs has no limit at all; here data.fit makes all samples fit."
    if flat and "model_max_length" not in ledger.given:
        note = "Theirs has no limit with data_flatten; null here is the model's own."
        ledger.row("model_max_length", 512, "data.max_length", None, "differs", note)
    else:
        ledger.carry("model_max_length", Rule("data.max_length", as_int, cut, "differs", 512))
    unit = 28 * 28
    ledger.carry_all(
        {
            "max_pixels": Rule("data.images.max_pixels", as_int, default=576 * unit),
            "min_pixels": Rule("data.images.min_pixels", as_int, default=16 * unit),
            "video_max_frames": Rule("data.videos.max_frames", as_int, default=8),
            "video_min_frames": Rule("data.videos.min_frames", as_int, default=4),
            "video_max_pixels": Rule(
                "data.videos.max_pixels", as_int, field_of, default=1024 * unit
            ),
            "video_min_pixels": Rule(
                "data.videos.min_pixels", as_int, field_of, default=256 * unit
            ),
            "video_fps": Rule("data.videos.fps", as_float),
        }
    )


def as_flag(value: Any) -> bool:
    """Whether a flag is given and not false."""
    return value is not None and str(value).lower() not in ("false", "0", "no")


def _carry_tuning(ledger: Ledger) -> None:
    lora = ledger.take("lora_enable", as_bool)
    towers = {"tune_mm_llm": "language", "tune_mm_mlp": "projector", "tune_mm_vision": "vision"}
    if lora:
        _carry_lora(ledger, towers)
        return
    if lora is False:
        ledger.none("lora_enable", False, "Each tower says by itself how it trains.")
    for key, tower in towers.items():
        given = ledger.take(key, as_bool)
        result = "full" if given else "freeze"
        target = f"tuning.{tower}"
        if given is not None:
            note = "The deepstack mergers of Qwen3-VL belong here, not to vision."
            note = note if tower == "projector" else ""
            verdict = "differs" if note else "carried"
            ledger.write(key, given, target, result, verdict, note)
        elif result != our_default(target):
            ledger.write_default(key, False, target, result)
    language = ledger.values["tuning"]["language"]
    for tower in ("embeddings", "head"):
        ledger.put(f"tuning.{tower}", language)
    if language == "full":
        note = "Embedding and head belong to the language model there, and train with it."
        ledger.row("tune_mm_llm", True, "tuning.embeddings, head", "full", "carried", note)


def _carry_lora(ledger: Ledger, towers: Mapping[str, str]) -> None:
    note = "Theirs adapts q, k, v and o of the decoder; here every linear layer of the decoder."
    ledger.write("lora_enable", True, "tuning.language", "lora", "differs", note)
    for key, tower in towers.items():
        given = ledger.take(key, as_bool)
        if given:
            ledger.none(key, given, "Without effect there too: lora_enable freezes every tower.")
        if tower != "language":
            ledger.put(f"tuning.{tower}", "freeze")
    if our_default("tuning.projector") != "freeze":
        note = "lora_enable freezes it there."
        ledger.write_default("(projector)", "frozen", "tuning.projector", "freeze", note)
    ledger.carry_all(
        {
            "lora_r": Rule("tuning.lora.rank", as_int, default=64),
            "lora_alpha": Rule("tuning.lora.alpha", as_int, default=128),
        }
    )
    dropout = ledger.take("lora_dropout", as_float)
    if dropout:
        ledger.write("lora_dropout", dropout, "tuning.lora.dropout", dropout, "carried", "")
    else:
        note = "Their code turns 0 into 0.05."
        ledger.write_default("lora_dropout", 0.0, "tuning.lora.dropout", 0.05, note)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a shell script.

    Attributes:
        words: Its arguments.
        words_before: What stands before them: a launcher with its options, and the program.
        environment: Variables that the script exports, or sets for this command.
    """

    words: list[str]
    words_before: list[str]
    environment: dict[str, str]


@dataclass
class _Word:
    """A word of a command: pieces of text, and whether quotes stood around them."""

    pieces: list[tuple[str, str]] = field(default_factory=list)

    def expanded(self, variables: Mapping[str, str]) -> list[str]:
        """The words that the shell would make of it: what is unquoted falls apart at spaces."""
        words, current, begun = [], "", False
        for text, quote in self.pieces:
            value = text if quote == "'" else _substituted(text, variables)
            if quote or value == text:
                current, begun = current + value, True
                continue
            first, *rest = value.split() or [""]
            current, begun = current + first, begun or bool(first)
            for part in rest:
                words.append(current)
                current = part
        return [*words, current] if begun else words


_NAME = re.compile(r"(\w+)=")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


def read_command(file: Path, start: Callable[[list[str]], int | None], expected: str) -> Command:
    """The one command of a shell script that starts a training. Nothing is executed.

    Args:
        file: The script.
        start: Where the arguments begin in a command's words; None where it is another command.
        expected: What such a command has in it, for the message.

    Raises:
        ConfigError: The file is missing or no text, a quote stays open, or there is no such
            command, or more than one.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{file}: the script cannot be read: {reason}.") from error
    variables: dict[str, str] = {}
    exported: dict[str, str] = {}
    found = []
    for command in _commands(text, file):
        own, words = _assignments(command, variables)
        if not words or words[0] == "export":
            for word in words[1:]:
                name, _, value = word.partition("=")
                own[name] = value or variables.get(name, "")
            variables |= own
            exported |= own if words else {}
            continue
        begin = start(words)
        if begin is not None:
            plain = _without_redirections(words)
            found.append(
                Command(words=plain[begin:], words_before=plain[:begin], environment=exported | own)
            )
    if len(found) != 1:
        raise ConfigError(
            f"{file}: {len(found)} commands with {expected} are found; one is expected.\n"
            f"Name a script that starts {expected} once, with plain name=value variables."
        )
    return found[0]


def read_flags(words: list[str], file: Path) -> dict[str, Any]:
    """Flags by name: a text, a list where several words follow, true where none does.

    Raises:
        ConfigError: A word stands before the first flag, or a flag is given twice.

    >>> read_flags(["--lr", "1e-5", "--names", "a", "b", "--bf16"], Path("run.sh"))
    {'lr': '1e-5', 'names': ['a', 'b'], 'bf16': True}
    """
    flags: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if name in flags:
                raise ConfigError(f"{file}: --{name} is given twice.\nKeep one of them.")
            flags[name] = [value] if equals else []
        elif name:
            flags[name].append(word)
        else:
            raise ConfigError(f"{file}: {word!r} stands before the first --flag.\nRemove it.")
    return {
        key: True if not values else values[0] if len(values) == 1 else values
        for key, values in flags.items()
    }


def _arguments(words: list[str]) -> int | None:
    return next((i + 1 for i, word in enumerate(words) if word.endswith("train_qwen.py")), None)


def _launch_options(words: list[str]) -> dict[str, str]:
    pairs = (word[2:].partition("=") for word in words if word.startswith("--"))
    options = {name: value for name, _, value in pairs if value}
    for word, following in pairwise(words):
        if word.startswith("--") and "=" not in word:
            options[word[2:]] = following
    return options


def _assignments(
    command: list[_Word], variables: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Leading ``name=value`` words of a command, and the words after them."""
    own: dict[str, str] = {}
    for place, word in enumerate(command):
        text, quote = word.pieces[0]
        found = None if quote else _NAME.match(text)
        if found is None:
            words = [
                part for each in command[place:] for part in each.expanded({**variables, **own})
            ]
            return own, words
        pieces = [(text[found.end() :], ""), *word.pieces[1:]]
        known = {**variables, **own}
        own[found[1]] = "".join(
            piece if quote == "'" else _substituted(piece, known) for piece, quote in pieces
        )
    return own, []


def _substituted(text: str, variables: Mapping[str, str]) -> str:
    """Variables that the script sets in place of their names; others stay as they are written."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        fallback = found[0] if found[3] is None else found[3].strip("\"'")
        return variables.get(name, fallback)

    return _VARIABLE.sub(value, text)


def _without_redirections(words: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        operator = re.match(r"^\d*(?:>>?|<|&>)&?", word)
        if re.match(r"\$\{?[@*]", word):
            # The script's own arguments: none are known here.
            continue
        if operator is not None:
            skip = operator.end() == len(word)
        elif skip:
            skip = False
        else:
            kept.append(word)
    return kept


def _commands(text: str, file: Path) -> Iterator[list[_Word]]:
    """The commands of a script, split into words; comments are left out."""
    text = text.replace("\r\n", "\n").replace("\\\n", " ")
    command: list[_Word] = []
    word: _Word | None = None
    at = 0
    while at < len(text):
        sign = text[at]
        if sign in " \t" or (sign == "#" and word is None) or _ends(text, at):
            if word is not None:
                command.append(word)
                word = None
            if sign == "#":
                at = (text + "\n").index("\n", at)
                continue
            if sign not in " \t" and command:
                yield command
                command = []
            at += 1
            continue
        word = word or _Word()
        at = _read_piece(text, at, word, file)
    if word is not None:
        command.append(word)
    if command:
        yield command


def _ends(text: str, at: int) -> bool:
    """Whether a command ends here: not at the & of ``2>&1`` or ``&>file``."""
    sign = text[at]
    if sign == "&":
        return text[at - 1 : at] != ">" and text[at + 1 : at + 2] != ">"
    return sign in "\n;|"


def _read_piece(text: str, at: int, word: _Word, file: Path) -> int:
    """Add the piece of a word that begins here, and say where it ends."""
    sign = text[at]
    if sign in "\"'":
        end = at + 1
        while end < len(text) and text[end] != sign:
            end += 2 if sign == '"' and text[end] == "\\" else 1
        if end >= len(text):
            line = text.count("\n", 0, at) + 1
            raise ConfigError(f"{file}: the quote {sign} near line {line} is not closed.")
        inner = text[at + 1 : end]
        word.pieces.append((re.sub(r'\\(["\\])', r"\1", inner) if sign == '"' else inner, sign))
        return end + 1
    if sign == "\\" and at + 1 < len(text):
        word.pieces.append((text[at + 1], "'"))
        return at + 2
    # What a command would print is not known: it stays one piece, as it is written.
    end = _closing(text, at + 1) if text.startswith("$(", at) else _past(text, at)
    while end < len(text) and text[end] not in " \t\n;|&\"'\\" and text[end : end + 2] != "$(":
        end = _past(text, end)
    word.pieces.append((text[at:end], ""))
    return end


def _past(text: str, at: int) -> int:
    """Past a sign, or past a whole ``${...}``, which may hold quotes."""
    close = text.find("}", at) if text.startswith("${", at) else -1
    return max(at, close) + 1


def _closing(text: str, at: int) -> int:
    depth = 0
    for end in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return end + 1
    return len(text)
