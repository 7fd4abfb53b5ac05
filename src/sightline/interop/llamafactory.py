"""Data sets that LLaMA-Factory's ``dataset_info.json`` declares.

    {"mllm_demo": {"file_name": "mllm_demo.json", "formatting": "sharegpt",
                   "columns": {"messages": "messages", "images": "images"},
                   "tags": {"role_tag": "role", "content_tag": "content", ...}}}

Its rules, kept here: ``file_name``, a file or a folder of files of one kind, and the media files
are relative to the folder of the declaration; a hub id comes before a file; without ``formatting``
an entry is alpaca; the default names of columns and tags hold only where ``columns`` or ``tags`` is
left out as a whole, and an unnamed one does not exist otherwise. What this version cannot read is
refused, never skipped.

Reference: data/parser.py of LLaMA-Factory, checked in tests/unit/interop/test_llamafactory.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypedDict

from sightline.config import Columns, Source, SourceFormat, Tags
from sightline.errors import ConfigError, DataError

DEFAULT_COLUMNS: dict[str, str | None] = {
    "messages": "conversations",
    "images": None,
    "videos": None,
    "system": None,
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": None,
}
DEFAULT_TAGS: dict[str, str | None] = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}
REQUIRED_COLUMNS = {
    "sharegpt": ("messages",),
    "openai": ("messages",),
    "alpaca": ("prompt", "response"),
}
REQUIRED_TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag")

# Named in a declaration without effect as long as no row uses them; a row that does is refused.
IDLE_TAGS = ("observation_tag", "function_tag")

UNREAD_COLUMNS = {
    "tools": "tool calls",
    "audios": "audio",
    "chosen": "preferences",
    "rejected": "preferences",
    "kto_tag": "preferences",
}
# Places that are not read, in the order in which LLaMA-Factory looks at them.
REMOTE_KEYS = ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
# Keys that are not acted on, with the values under which they do nothing.
IDLE_VALUES: dict[str, tuple[object, ...]] = {"ranking": (None, False), "folder": (None,)}
READ_KEYS = (
    "hf_hub_url",
    "file_name",
    "formatting",
    "columns",
    "tags",
    "subset",
    "split",
    "num_samples",
)
# OpenAI's shape differs from ShareGPT's by tool calls alone, which are not read.
FORMATS: dict[object, SourceFormat] = {
    "alpaca": "alpaca",
    "sharegpt": "sharegpt",
    "openai": "sharegpt",
}


class Declaration(TypedDict):
    """A declared data set, with every default filled in.

    ``columns`` and ``tags`` hold every name that this version reads; None: there is none.
    """

    path: Path | None
    hub: str | None
    subset: str | None
    split: str
    num_samples: int | None
    format: SourceFormat
    columns: dict[str, str | None]
    tags: dict[str, str | None]
    media_root: Path


def resolve_declaration(path: Path, name: str) -> Declaration:
    """The data set ``name`` of a ``dataset_info.json``.

    Args:
        path: The declaration file.
        name: Name of the entry.

    Raises:
        DataError: The file or the entry is missing or broken, or declares what is not read.
    """
    entry = _entry(path, name)
    _refuse_unread(entry, path, name)
    hub = _text(entry, "hf_hub_url", path, name)
    kind = entry.get("formatting", "alpaca")
    columns = _names(entry, "columns", DEFAULT_COLUMNS, REQUIRED_COLUMNS[str(kind)], path, name)
    tags = _names(entry, "tags", DEFAULT_TAGS, REQUIRED_TAGS, path, name)
    return Declaration(
        path=None if hub else _file(entry, path, name),
        hub=hub,
        subset=_text(entry, "subset", path, name),
        split=_text(entry, "split", path, name) or "train",
        num_samples=_num_samples(entry, path, name),
        format=FORMATS[kind],
        columns=columns,
        tags=tags,
        media_root=path.parent,
    )


def expand_sources(sources: Sequence[Source]) -> list[Source]:
    """The sources, each that names an entry of a declaration replaced by the file it declares.

    Args:
        sources: Data sources of a run configuration.

    Returns:
        Sources without a name. Their shape is stated, and so is the media folder: the one of the
        source where it has one, the folder of the declaration otherwise.

    Raises:
        ConfigError: A source has a name and also says what the declaration says.
        DataError: As ``resolve_declaration``.
    """
    return [source if source.name is None else _declared(source, source.name) for source in sources]


def _declared(source: Source, name: str) -> Source:
    stated = {"format": source.format, "columns": source.columns, "tags": source.tags}
    for key, value in stated.items():
        if value is not None:
            raise ConfigError(
                f"data: {source.title} declares the {key} of {name!r}, and the run configuration "
                f"gives {key} too.\nRemove {key}, or name the data file itself instead of name."
            )
    declared = resolve_declaration(Path(source.title), name)
    update = {
        "path": None if declared["path"] is None else str(declared["path"]),
        "hub": declared["hub"],
        "subset": declared["subset"],
        "split": declared["split"],
        "num_samples": source.num_samples or declared["num_samples"],
        "format": declared["format"],
        "name": None,
        "media_root": source.media_root or str(declared["media_root"]),
        "columns": Columns.model_validate(declared["columns"]),
        "tags": Tags.model_validate(declared["tags"]),
    }
    return source.model_copy(update=update)


def _entry(path: Path, name: str) -> Mapping[str, object]:
    entries = _entries(path)
    if name not in entries:
        close = get_close_matches(name, entries, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        fix = f"{hint}Declared: {', '.join(entries) or 'nothing'}."
        raise _error(f"no data set is called {name!r}.", path, None, fix)
    entry = entries[name]
    if not isinstance(entry, dict):
        raise _error("an object expected.", path, name, 'Write {"file_name": ...}.')
    return entry


def _entries(path: Path) -> dict[str, object]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        what = f"the declaration cannot be read: {error.strerror}."
        raise _error(what, path, None, "Give the path of a dataset_info.json.") from error
    except UnicodeDecodeError as error:
        raise _error("the declaration is not UTF-8.", path, None, None) from error
    except json.JSONDecodeError as error:
        what = f"broken JSON in column {error.colno}: {error.msg}."
        raise DataError(what, file=path, line=error.lineno, fix="Mend the file there.") from error
    if not isinstance(entries, dict):
        fix = "With name, path is a dataset_info.json; without name it is a data file."
        raise _error("a declaration is an object of data sets by name.", path, None, fix)
    return entries


def _refuse_unread(entry: Mapping[str, object], path: Path, name: str) -> None:
    """Refuse an entry that would be read differently from what it declares."""
    for key in REMOTE_KEYS:
        if entry.get(key) and not entry.get("hf_hub_url"):
            what = "only files on this machine and data sets of the Hugging Face hub are read."
            fix = "Save the data set as a file and name it with file_name, or with hf_hub_url."
            raise _error(what, path, f"{name}.{key}", fix)
    for key, idle in IDLE_VALUES.items():
        if entry.get(key) not in idle:
            what = f"{entry[key]!r} is not acted on by this version."
            raise _error(what, path, f"{name}.{key}", "Remove it, or prepare the file that way.")
    formatting = entry.get("formatting", "alpaca")
    if not isinstance(formatting, str) or formatting not in FORMATS:
        what = f"the formatting is {formatting!r}; known: {', '.join(map(str, FORMATS))}."
        raise _error(what, path, f"{name}.formatting", None)
    _refuse_unknown(entry, (*READ_KEYS, *REMOTE_KEYS, *IDLE_VALUES), path, name)


def _refuse_unknown(
    holder: Mapping[str, object], known: tuple[str, ...], path: Path, field: str
) -> None:
    for key in holder:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise _error("the key is unknown.", path, f"{field}.{key}", fix)


def _file(entry: Mapping[str, object], path: Path, name: str) -> Path:
    file_name = entry.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise _error("the entry names no file.", path, name, "Add file_name.")
    file = path.parent / file_name
    if not file.exists():
        fix = "file_name is a file or a folder, relative to the folder of this declaration."
        raise _error(f"{file} does not exist.", path, f"{name}.file_name", fix)
    if entry.get("split") not in (None, "train"):
        what = f"the split is {entry['split']!r}, and a file has no splits."
        raise _error(what, path, f"{name}.split", "Remove it, or name the split's own file.")
    return file


def _text(entry: Mapping[str, object], key: str, path: Path, name: str) -> str | None:
    value = entry.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _error("a text expected.", path, f"{name}.{key}", None)
    return value


def _num_samples(entry: Mapping[str, object], path: Path, name: str) -> int | None:
    value = entry.get("num_samples")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        what = f"{value!r} is given; a whole number over 0 expected."
        raise _error(what, path, f"{name}.num_samples", "Remove it to take all samples.")
    return value


def _names(
    entry: Mapping[str, object],
    key: str,
    defaults: Mapping[str, str | None],
    required: tuple[str, ...],
    path: Path,
    name: str,
) -> dict[str, str | None]:
    """The names that ``columns`` or ``tags`` gives, with None for what it leaves out."""
    field = f"{name}.{key}"
    given = entry.get(key)
    if given is None:
        return dict(defaults)
    if not isinstance(given, dict):
        raise _error("an object expected.", path, field, None)
    if key == "columns":
        _refuse_unread_columns(given, path, field)
    idle = (*UNREAD_COLUMNS,) if key == "columns" else IDLE_TAGS
    _refuse_unknown(given, (*defaults, *idle), path, field)
    for item, value in given.items():
        if value is not None and not isinstance(value, str):
            raise _error("a name (a string) expected.", path, f"{field}.{item}", None)
    names = {item: given.get(item) for item in defaults}
    for item in required:
        if names[item] is None:
            what = f"{key} is given without {item}, so LLaMA-Factory takes it for null."
            fix = f"Add {item}, or leave {key} out for the defaults."
            raise _error(what, path, field, fix)
    return names


def _refuse_unread_columns(columns: Mapping[str, object], path: Path, field: str) -> None:
    for column, meaning in UNREAD_COLUMNS.items():
        if columns.get(column) is not None:
            what = f"a column for {meaning}, which this version does not read."
            raise _error(what, path, f"{field}.{column}", "Remove it if the rows do not need it.")


def _error(what: str, path: Path, field: str | None, fix: str | None) -> DataError:
    return DataError(what, file=path, field=field, fix=fix)
