"""dataset_info.json: its rules, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.config import Columns, Source, Tags
from sightline.data import read_source
from sightline.errors import ConfigError, DataError
from sightline.interop import expand_sources, resolve_declaration

ENTRY = {
    "file_name": "sub/demo.json",
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/demo.json").write_text("[]")
    return tmp_path


def declare(folder: Path, entry: object) -> Path:
    path = folder / "dataset_info.json"
    path.write_text(json.dumps({"demo": entry}))
    return path


def refusal(path: Path, name: str = "demo") -> str:
    with pytest.raises(DataError) as caught:
        resolve_declaration(path, name)
    return str(caught.value)


def test_an_unnamed_column_or_tag_does_not_exist(folder: Path) -> None:
    assert resolve_declaration(declare(folder, ENTRY), "demo") == {
        "path": folder / "sub/demo.json",
        "hub": None,
        "subset": None,
        "split": "train",
        "num_samples": None,
        "format": "sharegpt",
        "columns": {
            "messages": "messages",
            "images": "images",
            "videos": None,
            "system": None,
            "prompt": None,
            "query": None,
            "response": None,
            "history": None,
        },
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": None,
        },
        "media_root": folder,
    }


def test_defaults_hold_where_columns_and_tags_are_left_out(folder: Path) -> None:
    entry = {"file_name": "sub/demo.json", "formatting": "sharegpt"}
    resolved = resolve_declaration(declare(folder, entry), "demo")
    assert resolved["columns"] == {
        "messages": "conversations",
        "images": None,
        "videos": None,
        "system": None,
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "history": None,
    }
    assert resolved["tags"] == {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "system_tag": "system",
    }


def test_keys_that_do_nothing_are_accepted(folder: Path) -> None:
    entry = ENTRY | {"ranking": False, "split": "train", "subset": None, "hf_hub_url": None}
    entry["tags"] = ENTRY["tags"] | {"observation_tag": "observation"}
    assert resolve_declaration(declare(folder, entry), "demo")["format"] == "sharegpt"


def test_unknown_name(folder: Path) -> None:
    path = declare(folder, ENTRY)
    assert refusal(path, "dmeo") == (
        f"{path}: no data set is called 'dmeo'.\nDid you mean 'demo'? Declared: demo."
    )


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        (
            {"formatting": "alpaca"},
            "demo.columns",
            "columns is given without prompt, so LLaMA-Factory takes it for null.\n"
            "Add prompt, or leave columns out for the defaults.",
        ),
        (
            {"formatting": "gpt"},
            "demo.formatting",
            "the formatting is 'gpt'; known: alpaca, sharegpt, openai.",
        ),
        (
            {"ms_hub_url": "someone/data"},
            "demo.ms_hub_url",
            "only files on this machine and data sets of the Hugging Face hub are read.\n"
            "Save the data set as a file and name it with file_name, or with hf_hub_url.",
        ),
        (
            {"ranking": True},
            "demo.ranking",
            "True is not acted on by this version.\nRemove it, or prepare the file that way.",
        ),
        (
            {"split": "validation"},
            "demo.split",
            "the split is 'validation', and a file has no splits.\n"
            "Remove it, or name the split's own file.",
        ),
        (
            {"colums": {}},
            "demo.colums",
            "the key is unknown.\nDid you mean 'columns'?",
        ),
        (
            {"num_samples": "100"},
            "demo.num_samples",
            "'100' is given; a whole number over 0 expected.\nRemove it to take all samples.",
        ),
        (
            {"columns": {"images": "images"}},
            "demo.columns",
            "columns is given without messages, so LLaMA-Factory takes it for null.\n"
            "Add messages, or leave columns out for the defaults.",
        ),
        (
            {"columns": {"messages": "messages", "tools": "tools"}},
            "demo.columns.tools",
            "a column for tool calls, which this version does not read.\n"
            "Remove it if the rows do not need it.",
        ),
        (
            {"tags": {"rol_tag": "role"}},
            "demo.tags.rol_tag",
            "the key is unknown.\nDid you mean 'role_tag'?",
        ),
        (
            {"tags": {"role_tag": "role"}},
            "demo.tags",
            "tags is given without content_tag, so LLaMA-Factory takes it for null.\n"
            "Add content_tag, or leave tags out for the defaults.",
        ),
        ({"file_name": None}, "demo", "the entry names no file.\nAdd file_name."),
    ],
)
def test_what_is_refused(folder: Path, change: dict, field: str, message: str) -> None:
    path = declare(folder, ENTRY | change)
    assert refusal(path) == f"{path}: {field}: {message}"


def test_formatting_left_out_is_alpaca(folder: Path) -> None:
    resolved = resolve_declaration(declare(folder, {"file_name": "sub/demo.json"}), "demo")
    assert resolved["format"] == "alpaca"
    assert resolved["columns"]["prompt"] == "instruction"


def test_a_declared_alpaca_row_is_read_by_its_own_names(folder: Path) -> None:
    row = {"q": "Hi", "more": "there", "a": "Yes", "images": ["a.png"], "history": [["x", "y"]]}
    (folder / "sub/demo.json").write_text(json.dumps([row]))
    entry = {"file_name": "sub", "columns": {"prompt": "q", "query": "more", "response": "a"}}
    [source] = expand_sources([Source(path=declare(folder, entry), name="demo")])
    [conversation] = read_source(source)
    # Neither images nor history is named, so neither is there.
    assert [message.text for message in conversation.messages] == ["Hi\nthere", "Yes"]


def test_a_hub_id_goes_before_a_file_and_samples_are_counted(folder: Path) -> None:
    entry = ENTRY | {"hf_hub_url": "a/b", "subset": "en", "split": "test", "num_samples": 7}
    [source] = expand_sources([Source(path=declare(folder, entry), name="demo")])
    assert (source.path, source.hub) == (None, "a/b")
    assert (source.subset, source.split, source.num_samples) == ("en", "test", 7)


def test_openai_rows_are_read_by_the_declared_names(folder: Path) -> None:
    resolved = resolve_declaration(declare(folder, ENTRY | {"formatting": "openai"}), "demo")
    assert resolved["format"] == "sharegpt"
    assert resolved["tags"]["role_tag"] == "role"


def test_data_file_that_is_not_there(folder: Path) -> None:
    path = declare(folder, ENTRY | {"file_name": "none.json"})
    assert refusal(path) == (
        f"{path}: demo.file_name: {folder / 'none.json'} does not exist.\n"
        "file_name is a file or a folder, relative to the folder of this declaration."
    )


def test_broken_declaration(folder: Path) -> None:
    path = folder / "dataset_info.json"
    path.write_text('{"demo": {\n "file_name": }}')
    assert refusal(path) == (
        f"{path}:2: broken JSON in column 15: Expecting value.\nMend the file there."
    )
    path.write_text("[]")
    assert refusal(path) == (
        f"{path}: a declaration is an object of data sets by name.\n"
        "With name, path is a dataset_info.json; without name it is a data file."
    )
    assert refusal(folder / "none.json").startswith(
        f"{folder}/none.json: the declaration cannot be read: No such file or directory."
    )


def test_a_source_with_a_name_is_replaced_by_the_declared_file(folder: Path) -> None:
    plain = Source(path=folder / "other.jsonl")
    named = Source(path=declare(folder, ENTRY), name="demo")
    kept, replaced = expand_sources([plain, named])
    assert kept is plain
    assert replaced == Source(
        path=folder / "sub/demo.json",
        format="sharegpt",
        media_root=folder,
        columns=Columns(messages="messages", images="images"),
        tags=Tags(
            role_tag="role",
            content_tag="content",
            user_tag="user",
            assistant_tag="assistant",
            system_tag=None,
        ),
    )


def test_the_media_root_of_the_source_goes_before_the_declaration(folder: Path) -> None:
    path = declare(folder, ENTRY)
    [replaced] = expand_sources([Source(path=path, name="demo", media_root=folder / "sub")])
    assert replaced.media_root == str(folder / "sub")


def test_a_source_does_not_say_what_its_declaration_says(folder: Path) -> None:
    path = declare(folder, ENTRY)
    with pytest.raises(ConfigError) as caught:
        expand_sources([Source(path=path, name="demo", tags=Tags())])
    assert str(caught.value) == (
        f"data: {path} declares the tags of 'demo', and the run configuration gives tags too.\n"
        "Remove tags, or name the data file itself instead of name."
    )
