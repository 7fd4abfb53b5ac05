"""LLaMA-Factory's own preprocessing of one file, timed. Runs in an environment of LLaMA-Factory.

``python in_llamafactory.py CHECKPOINT FOLDER``: FOLDER holds dataset_info.json, which declares the
data set ``bench``. Prints seconds, samples and tokens as JSON, as the last
line.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer


def main(checkpoint: str, folder: str) -> None:
    """Load and preprocess as ``llamafactory-cli train`` does, one process."""
    with tempfile.TemporaryDirectory() as output:
        arguments = {
            "model_name_or_path": checkpoint,
            "stage": "sft",
            "do_train": True,
            "dataset": "bench",
            "dataset_dir": folder,
            "template": "qwen2_vl",
            "cutoff_len": 4096,
            "overwrite_cache": True,
            "output_dir": output,
            "report_to": "none",
        }
        model, data, training, _, _ = get_train_args(arguments)
        module = load_tokenizer(model)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data)
        start = time.perf_counter()
        dataset = get_dataset(template, model, data, training, stage="sft", **module)
        seconds = time.perf_counter() - start
    rows = dataset["train_dataset"]
    tokens = sum(len(ids) for ids in rows["input_ids"])
    print(json.dumps({"seconds": seconds, "samples": len(rows), "tokens": tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
