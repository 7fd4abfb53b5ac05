"""A LLaMA-Factory user takes the demo along: import, check, train, and a certificate."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from sightline.config import load_config

# As in examples/train_lora of LLaMA-Factory, for the entries of the demo's declaration.
LORA = """\
### model
model_name_or_path: {model}
image_max_pixels: 50176
video_max_pixels: 25088
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_alpha: 192
lora_target: all
freeze_multi_modal_projector: false

### dataset
dataset_dir: {data}
dataset: mllm_demo,mllm_video_demo
template: qwen2_vl
cutoff_len: 240
video_fps: 1.0
video_maxlen: 8
overwrite_cache: true
preprocessing_num_workers: 2

### output
output_dir: saves/demo
logging_steps: 1
save_steps: 1000
plot_loss: true
overwrite_output_dir: true

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 4.0e-3
num_train_epochs: 4.0
lr_scheduler_type: linear
warmup_ratio: 0.1
"""


@pytest.fixture
def folder(shared: Path, tmp_path: Path, tiny_folder, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    data = os.path.relpath(shared / "data" / "llamafactory_demo", tmp_path)
    model = tiny_folder("qwen2_5_vl")
    (tmp_path / "lora_sft.yaml").write_text(LORA.format(model=model, data=data))
    return tmp_path


def test_import_check_train(command, folder: Path) -> None:
    """With a cutoff_len that cuts through pictures and turns of three conversations."""
    done = command("import", "llamafactory", "lora_sft.yaml", "--output", "run.yaml")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    told = {found[1] for line in done.out.splitlines() if (found := re.match(r" (\w+)", line))}
    assert told >= set(re.findall(r"^(\w+):", LORA, re.MULTILINE))
    config = load_config(folder / "run.yaml")
    assert (config.data.max_length, config.tuning.projector.mode) == (240, "lora")
    assert config.data.images.max_pixels == 50176

    checked = command("check", "run.yaml", "--json")
    assert checked.code == 0, checked.err
    said = json.loads(checked.out)
    assert said["samples"] == 9
    assert said["fates"] == {"kept": 6, "fitted": 2, "dropped": 1, "quarantined": 0}
    assert said["policies"] == {"shrink": 2, "trim": 1, "drop": 1}

    # What the tool of the import trains is Qwen-sized; the rates are for a tiny model here.
    tiny = ("tuning.projector.learning_rate=3.0e-4", "tuning.head=lora", "verify.samples=4")
    sets = [word for key in tiny for word in ("--set", key)]
    trained = command("train", "run.yaml", *sets)
    assert trained.code == 0, trained.out + trained.err
    assert "6 of 9 samples kept as they are, 2 fitted, 1 dropped" in trained.out
    run = folder / config.output
    state = json.loads((run / "run.json").read_text("utf-8"))
    assert state["data"]["fingerprint"] == said["fingerprint"]
    certificate = json.loads((run / "certificate.json").read_text("utf-8"))
    assert certificate["verdict"] == "holds"
    ledger = (run / "ledger.jsonl").read_text("utf-8").splitlines()
    fates = [json.loads(line)["fate"] for line in ledger]
    assert sorted(fates) == ["dropped", "fitted", "fitted", *["kept"] * 6]
