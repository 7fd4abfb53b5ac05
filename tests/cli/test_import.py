"""``sightline import``: another tool's configuration becomes a run.yaml that can be checked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from sightline.config import RunConfig, load_config

TINY = ("--set", "model=tiny:qwen2_5_vl")
LORA = """\
### model
model_name_or_path: Qwen/Qwen2.5-VL-7B-Instruct
image_max_pixels: 262144
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### data
dataset: colours
template: qwen2_vl
cutoff_len: 1024
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 1

### training
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
a_key_that_nobody_knows: 1

### output
output_dir: saves/qwen2_5vl-7b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
"""
SWIFT = """\
#!/bin/bash
rate=1e-4
CUDA_VISIBLE_DEVICES=0 MAX_PIXELS=262144 \\
swift sft \\
    --model Qwen/Qwen2.5-VL-7B-Instruct \\
    --dataset data/messages.jsonl \\
    --train_type lora \\
    --learning_rate ${rate} \\
    --max_length 1024 \\
    --dataset_num_proc 1 \\
    --deepspeed zero2 \\
    --output_dir output
"""
OFFICIAL = """\
#!/bin/bash
datasets=colours%50
args="--model_name_or_path Qwen/Qwen2.5-VL-7B-Instruct \\
    --dataset_use ${datasets} \\
    --tune_mm_vision False --tune_mm_mlp True --tune_mm_llm True \\
    --model_max_length 1024 \\
    --learning_rate 1e-5 \\
    --deepspeed zero3.json \\
    --output_dir output"
torchrun --nproc_per_node=2 qwenvl/train/train_qwen.py ${args}
"""
DATASETS = """\
COLOURS = {"annotation_path": "data/official.json", "data_path": "data"}
data_dict = {"colours": COLOURS}
raise SystemExit("this file is never imported")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same four pictures in the shape of each tool, in the working directory."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    messages, official = [], []
    for index in range(4):
        picture = f"images/{index}.png"
        Image.new("RGB", (112 + 28 * index, 112), (60 * index, 90, 10)).save(data / picture)
        turns = (("user", "<image>Which colour?"), ("assistant", "A dark one."))
        messages.append(
            {
                "messages": [{"role": role, "content": text} for role, text in turns],
                "images": [picture],
            }
        )
        speakers = {"user": "human", "assistant": "gpt"}
        official.append(
            {
                "image": picture,
                "conversations": [{"from": speakers[role], "value": text} for role, text in turns],
            }
        )
    declared = {
        "colours": {
            "file_name": "colours.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
            },
        }
    }
    (data / "dataset_info.json").write_text(json.dumps(declared))
    (data / "colours.json").write_text(json.dumps(messages))
    (data / "official.json").write_text(json.dumps(official))
    # ms-swift takes the paths of pictures relative to where training starts.
    rows = [row | {"images": [f"data/{path}" for path in row["images"]]} for row in messages]
    (data / "messages.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _imported(command, *arguments: object) -> tuple[list[str], RunConfig]:
    """The printed lines of an import that works, and the run.yaml that it wrote."""
    done = command("import", *arguments, "--output", "run.yaml")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines, load_config(Path("run.yaml"))


def _keys(lines: list[str]) -> set[str]:
    """The first word of each cell in the report's first column."""
    return {found[1] for line in lines if (found := re.match(r" (\w+)(?: |$)", line))}


def _checked(command, folder: Path) -> dict:
    """The record of ``sightline check`` over the imported run, with a model that is here."""
    done = command("check", "run.yaml", *TINY, "--output", folder / "checked", "--json")
    assert done.code == 0, done.out + done.err
    return json.loads(done.out)


def _refused(outcome, *fragments: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.count("sightline: ") == 1
    assert "Traceback" not in outcome.err + outcome.out
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err


def test_llamafactory_lora_is_imported_and_checked(command, folder: Path) -> None:
    (folder / "lora.yaml").write_text(LORA)
    lines, config = _imported(command, "llamafactory", "lora.yaml")
    assert _keys(lines) >= set(yaml.safe_load(LORA))
    assert any("does not know the key" in " ".join(line.split()) for line in lines)
    towers = (config.tuning.language, config.tuning.vision, config.tuning.projector)
    assert [tower.mode for tower in towers] == ["lora", "freeze", "freeze"]
    assert (config.tuning.lora.rank, config.tuning.lora.alpha) == (8, 16)
    assert (config.data.max_length, config.data.processes) == (1024, 1)
    assert config.data.images.max_pixels == 262144
    assert config.training.gradient_accumulation == 8
    assert config.training.learning_rate == 1e-4
    assert _checked(command, folder)["errors"] == []
    assert len((folder / "checked/ledger.jsonl").read_text().splitlines()) == 4


def test_the_report_counts_what_it_lists(command, folder: Path) -> None:
    (folder / "lora.yaml").write_text(LORA)
    lines, _ = _imported(command, "llamafactory", "lora.yaml")
    titles = ("Carried over", "Not the same here", "No counterpart")
    said = [re.fullmatch(r"(.*) \((\d+)\)", line) for line in lines]
    counts = {found[1]: int(found[2]) for found in said if found}
    assert tuple(counts) == titles
    carried, differs, none = counts.values()
    assert (
        f"llamafactory: {carried} carried over, {differs} not the same here, "
        f"{none} without a counterpart." in lines
    )
    assert lines[-1] == "run.yaml  run.yaml"


def test_a_swift_script_is_imported_and_checked(command, folder: Path) -> None:
    (folder / "train.sh").write_text(SWIFT)
    lines, config = _imported(command, "swift", "train.sh")
    flags = set(re.findall(r"--(\w+)", SWIFT))
    assert _keys(lines) >= flags | {"MAX_PIXELS", "CUDA_VISIBLE_DEVICES"}
    assert config.data.images.max_pixels == 262144
    assert config.data.processes == 1
    assert config.training.learning_rate == 1e-4
    assert config.tuning.language.mode == "lora"
    assert config.training.parallel == "zero2"
    assert _checked(command, folder)["errors"] == []


def test_packed_rows_are_imported_as_tokens_and_checked(command, folder: Path) -> None:
    packed = "neat_packing: true\ndeepspeed: examples/deepspeed/ds_z3_config.json\n"
    (folder / "lora.yaml").write_text(LORA + packed)
    lines, config = _imported(command, "llamafactory", "lora.yaml")
    assert _keys(lines) >= {"neat_packing", "deepspeed"}
    training = config.training
    # Rows of 1024, one in a pass, 8 passes.
    assert (training.tokens_per_step, training.tokens_per_row) == (8192, 1024)
    assert (training.packing, training.parallel) == ("auto", "zero3")
    assert _checked(command, folder)["errors"] == []


def test_an_official_script_is_imported_and_checked(command, folder: Path) -> None:
    (folder / "sft.sh").write_text(OFFICIAL)
    (folder / "datasets.py").write_text(DATASETS)
    lines, config = _imported(command, "official", "sft.sh", "--datasets", "datasets.py")
    assert _keys(lines) >= set(re.findall(r"--(\w+)", OFFICIAL))
    [source] = config.data.train
    assert (source.format, source.weight) == ("official", 0.5)
    assert (config.tuning.language.mode, config.tuning.vision.mode) == ("full", "freeze")
    assert config.training.parallel == "zero3"
    assert any("--processes 2" in line for line in lines)
    assert _checked(command, folder)["errors"] == []


def test_a_run_yaml_in_another_folder_finds_its_data(command, folder: Path) -> None:
    (folder / "lora.yaml").write_text(LORA)
    done = command("import", "llamafactory", "lora.yaml", "--output", "runs/one/run.yaml")
    assert done.code == 0, done.err
    [source] = load_config(folder / "runs/one/run.yaml").data.train
    assert Path(source.title).resolve() == folder / "data/dataset_info.json"


def test_a_file_that_is_there_is_replaced_only_when_told(command, folder: Path) -> None:
    (folder / "lora.yaml").write_text(LORA)
    (folder / "run.yaml").write_text("mine\n")
    arguments = ("import", "llamafactory", "lora.yaml", "--output", "run.yaml")
    _refused(command(*arguments), "run.yaml: the file is there already", "--overwrite")
    assert (folder / "run.yaml").read_text() == "mine\n"
    assert command(*arguments, "--overwrite").code == 0
    assert load_config(folder / "run.yaml").tuning.lora.rank == 8
    _refused(command(*arguments[:-1], "data", "--overwrite"), "data: it is a folder")


@pytest.mark.parametrize(
    ("tool", "name", "text", "words"),
    [
        ("llamafactory", "none.yaml", None, ("none.yaml", "No such file")),
        ("swift", "none.sh", None, ("none.sh", "No such file")),
        ("official", "none.sh", None, ("none.sh", "No such file")),
        ("llamafactory", "a.yaml", "dataset: [unclosed\n", ("a.yaml:", "not YAML")),
        ("llamafactory", "a.yaml", "dataset: colours\n", ("model_name_or_path", "missing")),
        ("llamafactory", "a.yaml", LORA.replace("colours", "colors"), ("Did you mean colours?",)),
        ("llamafactory", "a.yaml", LORA.replace("1024", "many"), ("cutoff_len", "'many'")),
        ("llamafactory", "a.yaml", f"{LORA}packing: 2\n", ("packing", "true or false")),
        ("swift", "a.sh", SWIFT.replace("zero2", "'{'"), ("deepspeed", "not JSON")),
        ("swift", "a.sh", "swift sft --model 'a", ("a.sh", "not closed")),
        ("official", "a.sh", OFFICIAL, ("dataset_use", "--datasets")),
        ("llamafacotry", "a.yaml", LORA, ("llamafacotry", "Did you mean llamafactory?")),
        ("axolotl", "a.yaml", LORA, ("axolotl", "llamafactory, swift, official")),
    ],
)
def test_what_cannot_be_imported_is_one_message(
    command, folder: Path, tool: str, name: str, text: str | None, words: tuple[str, ...]
) -> None:
    if text is not None:
        (folder / name).write_text(text)
    _refused(command("import", tool, name, "--output", "run.yaml"), *words)
    assert not (folder / "run.yaml").exists()


def test_datasets_belong_to_official_alone(command, folder: Path) -> None:
    (folder / "lora.yaml").write_text(LORA)
    arguments = ("llamafactory", "lora.yaml", "--datasets", "d.py", "--output", "run.yaml")
    _refused(command("import", *arguments), "--datasets d.py", "official")


def test_a_broken_file_leaves_no_traceback_in_a_process_of_its_own(process, folder: Path) -> None:
    (folder / "lora.yaml").write_text("dataset: [unclosed\n")
    _refused(process("import", "llamafactory", "lora.yaml", "--output", "run.yaml"), "not YAML")
