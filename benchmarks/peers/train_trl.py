"""The same training by TRL's SFTTrainer. Runs in an environment of TRL.

``python train_trl.py SETTINGS OUTPUT``: SETTINGS is JSON, `Job.record` of training_work.py. Rows
are given as prompt and completion, so that answers alone have labels. Prints the trainer's own
seconds, mean loss and trained numbers as JSON, as the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image, Sequence, Value
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer

LANGUAGE_LINEARS = r".*language_model\.layers\..*\.(q|k|v|o|gate|up|down)_proj"


def read_rows(folder: Path) -> Dataset:
    """Prompt, completion and pictures of every row."""
    rows: list[dict[str, Any]] = []
    for line in (folder / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked, said = (turn["content"] for turn in row["messages"])
        asked = asked.replace("<image>", "")
        rows.append(
            {
                "prompt": [{"role": "user", "content": asked}],
                "completion": [{"role": "assistant", "content": said}],
                "images": [str(folder / name) for name in row["images"]],
            }
        )
    turns = [{"role": Value("string"), "content": Value("string")}]
    features = Features({"prompt": turns, "completion": turns, "images": Sequence(Image())})
    return Dataset.from_list(rows, features=features)


def main(settings: str, output: str) -> None:
    """Train once."""
    job = json.loads(settings)
    model = AutoModelForImageTextToText.from_pretrained(job["model"], dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(job["model"], max_pixels=job["max_pixels"])
    arguments = SFTConfig(
        output_dir=output,
        num_train_epochs=job["epochs"],
        per_device_train_batch_size=job["batch"],
        gradient_accumulation_steps=1,
        learning_rate=job["rate"],
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        max_length=None,
        bf16=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=read_rows(Path(job["data"])),
        processing_class=processor,
        peft_config=LoraConfig(
            r=job["rank"], lora_alpha=2 * job["rank"], target_modules=LANGUAGE_LINEARS
        ),
    )
    metrics = trainer.train().metrics
    trainer.save_model()
    trained = sum(w.numel() for w in trainer.model.parameters() if w.requires_grad)
    said = {"seconds": metrics["train_runtime"], "loss": metrics["train_loss"], "trained": trained}
    print(json.dumps({**said, "steps": trainer.state.global_step}))


if __name__ == "__main__":
    main(*sys.argv[1:])
