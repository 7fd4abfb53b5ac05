"""What ``sightline check`` finds in the data, before a weight is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sightline.checks.box_spaces import BoxSpaces, told_spaces, warning_of
from sightline.checks.suggestions import suggestions, warnings
from sightline.config import RunConfig
from sightline.data.index import num_cores
from sightline.data.ledger import LedgerCounts, joined
from sightline.data.statistics import (
    SourceNumbers,
    duplicates,
    overlap,
    percentiles,
    source_numbers,
)
from sightline.model import Checkpoint
from sightline.preparation import PlannedData, PreparedData

KEEPS = (95, 99, 100)
# Less than this share of its pixels and a picture shows something else.
_MUCH_SHRUNK = 0.25
_NUM_EXAMPLES = 2

TITLES = {
    "media.missing": "image or video missing",
    "media.damaged": "image or video damaged",
    "media.slow": "video that takes too long to decode",
    "media.shape": "image or video of an impossible shape",
    "media.large": "image over max_file_pixels",
    "media.outside": "image or video outside of media_root",
    "media.address": "image or video on a network",
    "media.download": "image or video that cannot be fetched",
    "media.count": "placeholders and files disagree",
    "media.role": "image or video in an answer",
    "media.wrong": "no image or video file",
    "role.unknown": "role unknown",
    "turns.order": "turns out of order",
    "turns.empty": "empty turn",
    "turns.none": "no turns",
    "answer.untrained": "no answer is trained",
    "answer.space": "answer begins with white space",
    "text.control": "control tokens in the text",
    "text.encoding": "text that is not UTF-8",
    "json.broken": "broken JSON",
    "format.unknown": "shape of the row unknown",
    "field.unread": "field that is not read",
    "box.outside": "box outside its picture",
    "box.order": "corners of a box out of order",
    "box.wrong": "no box",
    "box.count": "marks and boxes disagree",
    "box.image": "box of an image that is not there",
    "annotation.wrong": "annotation wrong",
    "fit.too_long": "over max_length, no policy helps",
    "fit.dropped": "over max_length, dropped",
    "template.wrong": "chat template disagrees",
    "sample.wrong": "sample wrong",
    "source.changed": "source changed",
}


def check_data(
    config: RunConfig, checkpoint: Checkpoint, data: PreparedData, counts: LedgerCounts
) -> dict[str, Any]:
    """Everything that check reports, as JSON.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        data: The prepared data.
        counts: What the ledger of the training data adds up to.
    """
    train = data.train
    per_source = [source_numbers(_files_of(train, n)) for n in range(len(train.sources))]
    lengths = np.concatenate([numbers.lengths for numbers in per_source])
    twice = duplicates(train.files, lengths)
    faults = _faults(train)
    shared = 0
    # A share of the training data is held out with all that is about the same.
    if data.eval is not None and train.held_out is None:
        shared = overlap(train.files, data.eval.files)
    record: dict[str, Any] = {
        "schema": 1,
        "model": config.model,
        "family": checkpoint.family.title,
        "max_length": data.max_length,
        "model_max_length": checkpoint.max_length,
        "fingerprint": data.fingerprint,
        "sources": [
            _source_record(train, number, numbers) for number, numbers in enumerate(per_source)
        ],
        "samples": counts.input,
        "fates": {
            fate: counts.fates.get(fate, 0) for fate in ("kept", "fitted", "dropped", "quarantined")
        },
        "policies": counts.policies,
        "conversations": counts.conversations,
        "epoch": {
            "conversations": counts.epoch,
            "tokens": int(train.samples.column("num_tokens").sum()),
            "supervised": int(train.samples.column("num_supervised_tokens").sum()),
            "unused": counts.unused,
        },
        "answers_lost": counts.answers_lost,
        "shrunk_to": _strongest_shrink(train),
        "boxes": [
            _boxes(told_spaces(_files_of(train, n), checkpoint.preprocessing), checkpoint)
            for n in range(len(train.sources))
        ],
        "tokens": {
            kind: sum(numbers.tokens.get(kind, 0) for numbers in per_source)
            for kind in ("text", "image", "video", "supervised")
        },
        "lengths": percentiles(lengths),
        "keeps": _keeps(lengths, checkpoint),
        "faults": faults,
        "duplicates": {
            "extra": twice.num_extra,
            "tokens": twice.num_tokens,
            "examples": [list(pair) for pair in twice.examples],
        },
        "eval": None
        if data.eval is None
        else {"conversations": len(data.eval.samples), "also_in_train": shared},
        "machine": _machine(config),
    }
    record["suggestions"] = [
        {"what": item.what, "saves": item.saves, "samples": item.samples, "tokens": item.tokens}
        for item in sorted(
            suggestions(config, checkpoint, train, record, twice, lengths),
            key=lambda item: (item.samples, item.tokens),
            reverse=True,
        )
    ]
    record["warnings"] = list(warnings(config, record))
    stops = config.data.on_bad == "stop" and record["fates"]["quarantined"]
    record["errors"] = (
        [f"data.on_bad is stop, and {record['fates']['quarantined']} samples cannot be used."]
        if stops
        else []
    )
    return record


def _files_of(data: PlannedData, source: int) -> list[Any]:
    return [file for file, of in zip(data.files, data.source_of_file, strict=True) if of == source]


def _source_record(data: PlannedData, number: int, numbers: SourceNumbers) -> dict[str, Any]:
    source = data.sources[number]
    return {
        "source": source.title,
        "files": len(_files_of(data, number)),
        "formats": {name or "unknown": count for name, count in numbers.formats.items()},
        "samples": numbers.num_samples,
        "usable": numbers.num_usable,
        "images": numbers.num_images,
        "videos": numbers.num_videos,
        "tokens": numbers.tokens,
        "weight": source.weight,
        "lengths": numbers.percentiles(),
    }


def _boxes(spaces: BoxSpaces | None, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What the boxes in the text of a source say of the space they are in."""
    if spaces is None:
        return None
    return {
        "boxes": spaces.num_boxes,
        "found": list(spaces.found),
        "evidence": {
            one.space: {"inside": round(one.inside, 4), "reach": round(one.reach, 4)}
            for one in spaces.evidence
        },
        "warning": warning_of(spaces, checkpoint.family),
    }


def _keeps(lengths: np.ndarray, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """What max_length keeps so many percent whole, and what its longest row costs."""
    vocabulary = int(checkpoint.config.text_config.vocab_size)
    rows = []
    for percent in KEEPS if len(lengths) else ():
        length = int(np.percentile(lengths, percent, method="inverted_cdf"))
        kept = lengths[lengths <= length]
        rows.append(
            {
                "percent": percent,
                "max_length": length,
                "samples": len(kept),
                "tokens": int(kept.sum()),
                # The largest tensor of a step where the head is computed for the whole row.
                "logits_bytes": length * vocabulary * 4,
                "fits_model": length <= checkpoint.max_length,
            }
        )
    return rows


def _faults(data: PlannedData) -> list[dict[str, Any]]:
    """Samples that are left out, by the kind of their fault, with the first places."""
    found: dict[str, dict[str, Any]] = {}
    for file, entry, fate in joined(data.files, data.plan, only_changed=True):
        if fate.fate not in ("quarantined", "dropped"):
            continue
        code = fate.code or "sample.wrong"
        kind = found.setdefault(
            code, {"code": code, "title": TITLES.get(code, code), "samples": 0, "examples": []}
        )
        kind["samples"] += 1
        if len(kind["examples"]) < _NUM_EXAMPLES:
            origin = entry.origin(file.reader.rows.file)
            kind["examples"].append(
                {
                    "where": str(origin),
                    "field": entry.field,
                    "what": entry.what or fate.reason,
                    "fix": entry.fix,
                }
            )
    return sorted(found.values(), key=lambda kind: -kind["samples"])


def _strongest_shrink(data: PlannedData) -> dict[str, Any] | None:
    shares = [fate.shrunk_to for fate in data.plan.changed_fates() if fate.shrunk_to is not None]
    if not shares:
        return None
    return {
        "smallest": round(min(shares), 4),
        "median": round(float(np.median(shares)), 4),
        "below_a_quarter": sum(share < _MUCH_SHRUNK for share in shares),
    }


def _machine(config: RunConfig) -> dict[str, Any]:
    has_gpu = torch.cuda.is_available()
    precision = config.training.precision
    if precision == "auto":
        precision = "bf16" if has_gpu and torch.cuda.is_bf16_supported() else "fp32"
    return {
        "cores": num_cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "precision": precision,
        "num_workers": config.training.num_workers,
    }
