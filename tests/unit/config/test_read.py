"""YAML with lines: values, places and what is no configuration at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.config.read import Lines, parse_value, read_yaml
from sightline.errors import ConfigError


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("5E3", 5000.0),
        ("-2e+3", -2000.0),
        (".5e1", 5.0),
        ("1.0e-3", 0.001),
        ("3", 3),
        ("0.25", 0.25),
        ("true", True),
        ("null", None),
        ("", None),
        ("[a, b]", ["a", "b"]),
        ("{rank: 8}", {"rank": 8}),
        ("tiny:qwen2_vl", "tiny:qwen2_vl"),
        ("'1e-4'", "1e-4"),
        ("2026-01-31", "2026-01-31"),
        ("2026-02-30", "2026-02-30"),
        ("1e-4x", "1e-4x"),
        ("e5", "e5"),
    ],
)
def test_values_are_read_as_yaml_with_exponents(text: str, value: object) -> None:
    given = parse_value(text)
    assert given == value
    assert type(given) is type(value)


def test_every_key_and_item_has_its_line(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        "model: m\n"
        "\n"
        "data:  # the data\n"
        "  train:\n"
        "    - a.json\n"
        "    - path: b.json\n"
        "      name: c\n"
        "output: o\n",
    )
    values, lines = read_yaml(path)
    assert values == {
        "model": "m",
        "data": {"train": ["a.json", {"path": "b.json", "name": "c"}]},
        "output": "o",
    }
    places = {
        ("model",): 1,
        ("data",): 3,
        ("data", "train"): 4,
        ("data", "train", 0): 5,
        ("data", "train", 1): 6,
        ("data", "train", 1, "path"): 6,
        ("data", "train", 1, "name"): 7,
        ("output",): 8,
    }
    for place, line in places.items():
        assert lines.where(place) == f"{path}:{line}", place


def test_a_place_without_a_line_has_that_of_the_nearest_key_around_it() -> None:
    lines = Lines("run.yaml")
    lines.add(("data",), 3)
    lines.add(("data", "images"), 5)
    assert lines.where(("data", "images", "min_pixels")) == "run.yaml:5"
    assert lines.where(("data", "eval", 0, "path")) == "run.yaml:3"
    assert lines.where(("training", "epochs")) == "run.yaml"
    assert lines.where(()) == "run.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: a\ntraining: {}\nmodel: b\n",
            ":3: model is given twice, first in line 1.\nKeep one of them.",
        ),
        (
            "training:\n  epochs: 1\n  seed: 1\n  epochs: 2\n",
            ":4: training.epochs is given twice, first in line 2.\nKeep one of them.",
        ),
        (
            "data:\n  train:\n  - path: a\n    path: b\n",
            ":4: data.train.0.path is given twice, first in line 3.\nKeep one of them.",
        ),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, message: str
) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    assert str(refused.value) == f"{path}{message}"


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "model\n", "null\n"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    assert str(refused.value) == (
        f"{path}: a configuration is a mapping of keys, such as `model: ...`."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [a\n", ":2: this is not YAML: expected ',' or ']', but got '<stream end>'."),
        ("model: m\n\toutput: o\n", ":2: this is not YAML: found character '\\t'"),
        ("model: m\noutput: *o\n", ":2: this is not YAML: found undefined alias 'o'."),
        ("a: !!python/object:os.system {}\n", ":1: this is not YAML: could not determine"),
        ("model: m\n? [a, b]\n: 1\n", ":2: this is not YAML: found unhashable key."),
        ("model: m\n---\nmodel: n\n", "this is not YAML"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("model: a\x07b\n", id="a control character"),
        pytest.param("model: &a [*a]\n", id="a list that holds itself"),
    ],
)
def test_a_document_that_yaml_itself_stumbles_over_is_refused(tmp_path: Path, text: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read_yaml(tmp_path / "none.yaml")
    assert str(refused.value) == (
        f"{tmp_path / 'none.yaml'}: the configuration cannot be read: No such file or directory."
    )


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes("model: grün\n".encode("latin-1"))
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    assert str(refused.value) == f"{path}: the configuration cannot be read: it is not UTF-8."


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    values, _ = read_yaml(_written(tmp_path, "\ufeffmodel: m\n"))
    assert values == {"model": "m"}
