"""Loading: paths, overrides, faults with their lines, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.config import (
    TOWER_NAMES,
    Columns,
    LoraSettings,
    RunConfig,
    Tags,
    dump_config,
    load_config,
)
from sightline.errors import ConfigError

HEAD = "model: org/name\noutput: runs/one\ndata: {train: a.jsonl}\n"


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    """The message, with the file's name in place of its whole path."""
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_config(path, overrides)
    return str(refused.value).replace(str(path), "run.yaml")


def test_a_short_configuration_has_the_defaults(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, HEAD))
    assert config.model == "org/name"
    assert config.output == "runs/one"
    assert [source.path for source in config.data.train] == [str(tmp_path / "a.jsonl")]
    assert config.data.eval == []
    assert config.data.max_length is None
    assert (config.data.videos.fps, config.data.videos.max_frames) == (2.0, 768)
    modes = {tower: config.tuning.in_stage(tower, None).mode for tower in TOWER_NAMES}
    assert modes == {
        "vision": "freeze",
        "projector": "full",
        "language": "lora",
        "embeddings": "freeze",
        "head": "freeze",
    }
    assert config.tuning.lora == LoraSettings(rank=16, alpha=32, dropout=0.0)
    assert config.training.learning_rate == 0.0001
    assert config.training.gradient_accumulation == 8
    assert config.verify.enabled is True
    assert config.verify.logits_tolerance == 0.001


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    text = HEAD + "training: {learning_rate: 1e-4}\ntuning: {vision: {learning_rate: 2E-6}}\n"
    config = load_config(_written(tmp_path, text), ["training.weight_decay=5e-2"])
    assert config.training.learning_rate == 0.0001
    assert config.tuning.vision.learning_rate == 0.000002
    assert config.training.weight_decay == 0.05


def test_the_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, HEAD))
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 9.0  # type: ignore[misc]


def test_forms_of_data_sources(tmp_path: Path) -> None:
    text = (
        "model: org/name\noutput: o\n"
        "data:\n"
        "  train:\n"
        "  - one.json\n"
        "  - path: two.json\n"
        "    format: sharegpt\n"
        "    columns: {images: pictures}\n"
        "    tags: {role_tag: role}\n"
        "  eval: three.jsonl\n"
    )
    data = load_config(_written(tmp_path, text)).data
    one, two = data.train
    assert (one.path, one.format) == (str(tmp_path / "one.json"), None)
    assert (two.path, two.format) == (str(tmp_path / "two.json"), "sharegpt")
    assert two.columns == Columns(messages="conversations", images="pictures")
    assert two.tags == Tags(role_tag="role")
    assert [source.path for source in data.eval] == [str(tmp_path / "three.jsonl")]


# Overrides.


def test_overrides_win_and_make_sections(tmp_path: Path) -> None:
    path = _written(tmp_path, HEAD + "training: {epochs: 3, seed: 1}\n")
    config = load_config(
        path,
        [
            "training.epochs=1",
            "training.epochs=2",
            "tuning.lora.rank=8",
            "data.train=[b.jsonl, {path: c.json, name: d}]",
            "data.max_length=null",
            "model=other/name",
            "training.report_to=[tensorboard]",
        ],
    )
    assert (config.training.epochs, config.training.seed) == (2.0, 1)
    assert (config.tuning.lora.rank, config.tuning.lora.alpha) == (8, 32)
    assert [(Path(source.path).name, source.name) for source in config.data.train] == [
        ("b.jsonl", None),
        ("c.json", "d"),
    ]
    assert config.model == "other/name"
    assert config.training.report_to == ["tensorboard"]


def test_a_value_may_hold_equals_signs(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, HEAD), ["output=runs/lr=1e-4"])
    assert config.output == "runs/lr=1e-4"


@pytest.mark.parametrize("override", ["training.epochs", "=1", " =1", ""])
def test_an_override_that_is_no_pair_is_refused(tmp_path: Path, override: str) -> None:
    assert _refusal(tmp_path, HEAD, override) == (
        f"--set {override}: write KEY=VALUE, for example training.epochs=1."
    )


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path, HEAD, "model.name=x").startswith("--set model.name=x: model is no")


@pytest.mark.parametrize("value", ["[1", "a\x07b"])
def test_an_override_that_is_no_yaml_is_refused(tmp_path: Path, value: str) -> None:
    message = _refusal(tmp_path, HEAD, f"training.epochs={value}")
    assert message.startswith(f"--set training.epochs={value}: the value is not YAML")


def test_an_unknown_key_in_an_override_is_refused(tmp_path: Path) -> None:
    assert "training.epoch: there is no such key. Did you mean `training.epochs`?" in _refusal(
        tmp_path, HEAD, "training.epoch=1"
    )


def test_a_fault_of_an_override_is_not_blamed_on_a_line_of_the_file(tmp_path: Path) -> None:
    """Line 5 says 1: pointing there would send the user to the wrong place."""
    message = _refusal(tmp_path, HEAD + "training:\n  epochs: 1\n", "training.epochs=-1")
    assert message.startswith("--set training.epochs=-1: training.epochs: -1 is given.")
    assert "run.yaml:5" not in message


# Faults.


@pytest.mark.parametrize(
    ("text", "start", "fragment"),
    [
        ("training:\n  epoch: 1\n", "5: training.epoch: ", "`training.epochs`"),
        ("batch_size: 4\n", "4: batch_size: ", "`training.batch_size`"),
        ("training:\n  vision: full\n", "5: training.vision: ", "`tuning.vision`"),
        ("lora: {rank: 8}\n", "4: lora: ", "`tuning.lora`"),
        ("trainning: {}\n", "4: trainning: ", "`training`"),
        ("xyzzy: 1\n", "4: xyzzy: ", "`sightline config --explain` lists all keys."),
        ("training:\n  epochs: many\n", "5: training.epochs: ", "'many'"),
        ("training:\n  scheduler: cosin\n", "5: training.scheduler: ", "cosine"),
        ("training: {batch_size: 0}\n", "4: training.batch_size: ", "0 is given"),
        ("training: {learning_rate: .nan}\n", "4: training.learning_rate: ", "nan is given"),
        ("training: {learning_rate: .inf}\n", "4: training.learning_rate: ", "inf is given"),
        ("training: {warmup_ratio: 1}\n", "4: training.warmup_ratio: ", "1 is given"),
        ("tuning: {vision: true}\n", "4: tuning.vision: ", "freeze"),
        ("training: {batch_size: true}\n", "4: training.batch_size: ", "is given"),
        ("training: {seed: '7'}\n", "4: training.seed: ", "'7'"),
    ],
)
def test_a_fault_has_its_line_its_value_and_what_to_do(
    tmp_path: Path, text: str, start: str, fragment: str
) -> None:
    message = _refusal(tmp_path, HEAD + text)
    assert message.startswith(f"run.yaml:{start}")
    assert fragment in message
    assert "\n" not in message


def test_all_faults_are_in_one_message(tmp_path: Path) -> None:
    message = _refusal(
        tmp_path,
        "model: org/name\n"
        "data:\n"
        "  train: a.jsonl\n"
        "  images: {min_pixels: 9, max_pixels: 4}\n"
        "training:\n"
        "  epochs: 0\n"
        "  learning_rat: 1\n",
    )
    assert len(message.splitlines()) == 4
    for start in (
        "run.yaml:4: data.images",
        "run.yaml:6: training.epochs: 0 is given",
        "run.yaml:7: training.learning_rat: there is no such key",
        "run.yaml: output: this key is missing",
    ):
        assert any(line.startswith(start) for line in message.splitlines()), start


def test_missing_keys_are_named(tmp_path: Path) -> None:
    assert _refusal(tmp_path, "verify: {samples: 2}\n").splitlines() == [
        "run.yaml: model: this key is missing. A hub id or a folder. tiny:FAMILY makes a tiny "
        "random model, to try a run.",
        "run.yaml: data: this key is missing.",
        "run.yaml: output: this key is missing. Run directory, relative to the working directory.",
    ]


def test_a_key_missing_in_a_list_has_its_item(tmp_path: Path) -> None:
    text = "model: m/m\noutput: o\ndata:\n  train:\n  - a.json\n  - name: b\n"
    assert _refusal(tmp_path, text).startswith(
        "run.yaml:6: data.train[1]: name one of path and hub."
    )


@pytest.mark.parametrize(
    ("text", "start", "fragment"),
    [
        (
            "data:\n  train: a\n  images: {min_pixels: 2000, max_pixels: 1000}\n",
            "5: data.images",
            "min_pixels is 2000, over max_pixels 1000",
        ),
        (
            "data:\n  train: a\n  videos: {min_pixels: 2000, max_pixels: 1000}\n",
            "5: data.videos",
            "min_pixels is 2000, over max_pixels 1000",
        ),
        (
            "data:\n  train: a\n  videos: {min_frames: 8, max_frames: 4}\n",
            "5: data.videos",
            "min_frames is 8, over max_frames 4",
        ),
        (
            "data:\n  train: a\n  videos: {min_frames: 1000}\n",
            "5: data.videos",
            "min_frames is 1000, over max_frames 768",
        ),
        (
            "data: {train: a}\ntuning: {language: freeze, projector: freeze}\n",
            "4: tuning: ",
            "every tower is frozen, so the plan trains nothing",
        ),
        (
            "data: {train: a}\ntraining: {eval_every: 10}\n",
            "4: training.eval_every: ",
            "data.eval names no data",
        ),
        ("data:\n  train: []\n", "4: data.train: ", "ame at least one data file"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: str, start: str, fragment: str) -> None:
    message = _refusal(tmp_path, "model: m/m\noutput: o\n" + text)
    assert message.startswith(f"run.yaml:{start}")
    assert fragment in message


def test_equal_limits_and_an_evaluated_run_are_no_contradiction(tmp_path: Path) -> None:
    text = (
        "model: m/m\noutput: o\n"
        "data:\n"
        "  train: a\n"
        "  eval: b\n"
        "  images: {min_pixels: 1000, max_pixels: 1000}\n"
        "  videos: {min_frames: 4, max_frames: 4}\n"
        "training: {eval_every: 10}\n"
        "tuning: {language: freeze, projector: freeze, head: full}\n"
    )
    config = load_config(_written(tmp_path, text))
    assert config.data.images.min_pixels == config.data.images.max_pixels == 1000
    assert config.tuning.head.mode == "full"


# Paths.


def test_data_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    text = (
        "model: org/name\noutput: runs/one\n"
        "data:\n"
        "  train:\n"
        "  - {path: ../data/a.jsonl, media_root: ../media, strip_prefix: old/media}\n"
        "  - /elsewhere/b.jsonl\n"
        "  - ~/c.jsonl\n"
        "  eval: ./sub/./d.jsonl\n"
    )
    _written(folder, text)
    config = load_config(Path("configs/run.yaml"))
    first, second, third = config.data.train
    assert first.path == str(tmp_path / "data/a.jsonl")
    assert first.media_root == str(tmp_path / "media")
    assert first.strip_prefix == "old/media"
    assert second.path == "/elsewhere/b.jsonl"
    assert third.path == str(Path.home() / "c.jsonl")
    assert config.data.eval[0].path == str(folder / "sub/d.jsonl")


def test_a_link_into_a_data_disk_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    text = HEAD.replace("a.jsonl", "data/a.jsonl")
    assert load_config(_written(tmp_path, text)).data.train[0].path == str(
        tmp_path / "data/a.jsonl"
    )


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-VL-3B-Instruct", "tiny:qwen2_5_vl", "name"])
def test_hub_ids_and_tiny_models_are_left_alone(tmp_path: Path, model: str) -> None:
    assert load_config(_written(tmp_path, HEAD), [f"model={model}"]).model == model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("org/here", "{folder}/org/here"),
        ("./missing", "{folder}/missing"),
        ("../missing", "{parent}/missing"),
        ("/abs/model", "/abs/model"),
        ("~/model", "{home}/model"),
    ],
)
def test_a_model_that_is_a_folder_is_relative_to_the_file(
    tmp_path: Path, model: str, expected: str
) -> None:
    (tmp_path / "org" / "here").mkdir(parents=True)
    wanted = expected.format(folder=tmp_path, parent=tmp_path.parent, home=Path.home())
    assert load_config(_written(tmp_path, HEAD), [f"model={model}"]).model == wanted


def test_output_stays_relative_to_the_working_directory(tmp_path: Path) -> None:
    path = _written(tmp_path, HEAD)
    assert load_config(path).output == "runs/one"
    assert load_config(path, ["output=~/runs"]).output == str(Path.home() / "runs")
    assert load_config(path, ["output=/abs/run"]).output == "/abs/run"


# Dumping.


def test_a_dumped_configuration_loads_back_equal(tmp_path: Path) -> None:
    text = (
        "model: tiny:qwen3_vl\noutput: runs/运行 1\n"
        "data:\n"
        "  train: [{path: 数据.json, tags: {role_tag: role}, columns: {system: null}}, b.jsonl]\n"
        "  eval: c.jsonl\n"
        "  images: {max_pixels: 50176}\n"
        "tuning:\n"
        "  vision: lora\n"
        "  language: {rank: 8, parts: [{blocks: last 50%, kind: mlp, mode: full}]}\n"
        "  lora: {rank: 4, dropout: 0.1, target_modules: [q_proj]}\n"
        "  stages: [{until: 30%, vision: freeze}, {until: plateau, head: full}, {name: all}]\n"
        "training: {learning_rate: 1e-5, eval_every: 7, report_to: [wandb]}\n"
        "verify: {answers: memorised, logits_tolerance: 2e-3}\n"
    )
    config = load_config(_written(tmp_path, text))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    dumped = elsewhere / "config.yaml"
    dumped.write_text(dump_config(config), encoding="utf-8")
    assert load_config(dumped) == config
    assert "数据.json" in dumped.read_text(encoding="utf-8")
    assert "learning_rate: 1.0e-05" in dumped.read_text(encoding="utf-8")


def test_a_dump_names_every_section_in_order(tmp_path: Path) -> None:
    lines = dump_config(load_config(_written(tmp_path, HEAD))).splitlines()
    sections = [line.split(":")[0] for line in lines if not line.startswith((" ", "-"))]
    assert sections == list(RunConfig.model_fields)
    assert sections == [
        "model", "data", "tuning", "training", "evaluation", "export", "verify", "output",
    ]  # fmt: skip


def test_a_key_of_a_tower_that_is_one_word_is_set_beside_its_mode(tmp_path: Path) -> None:
    file = _written(tmp_path, f"{HEAD}tuning: {{projector: lora, vision: full}}\n")
    tuning = load_config(file, ["tuning.projector.learning_rate=3.0e-4"]).tuning
    assert (tuning.projector.mode, tuning.projector.learning_rate) == ("lora", 3e-4)
    assert tuning.vision.model_dump() == "full"
    with pytest.raises(ConfigError, match="model is not a section"):
        load_config(file, ["model.learning_rate=3.0e-4"])
