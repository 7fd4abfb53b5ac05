"""ms-swift's own preprocessing of one file, timed. Runs in an environment of ms-swift.

``python in_ms_swift.py CHECKPOINT ROWS``: ROWS is a JSONL file with messages and images, which
stand in the working directory. Prints seconds, samples and tokens as JSON, as the last line.
"""

from __future__ import annotations

import json
import sys
import time

from swift.dataset import AddLengthPreprocessor, load_dataset
from swift.model import get_processor
from swift.template import get_template


def main(checkpoint: str, rows: str) -> None:
    """Load the rows and learn their lengths as ms-swift does before it packs, one process."""
    processor = get_processor(checkpoint, model_type="qwen2_5_vl")
    template = get_template(processor, template_type="qwen2_5_vl", max_length=4096)
    template.set_mode("train")
    # It is written down as the released models' number; a tiny tokenizer has another.
    template.image_token_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    start = time.perf_counter()
    dataset, _ = load_dataset([rows], num_proc=1, load_from_cache_file=False, shuffle=False)
    dataset = AddLengthPreprocessor(template=template)(
        dataset, num_proc=1, load_from_cache_file=False, strict=False
    )
    seconds = time.perf_counter() - start
    tokens = sum(sum(lengths) for lengths in dataset["lengths"])
    print(json.dumps({"seconds": seconds, "samples": len(dataset), "tokens": tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
