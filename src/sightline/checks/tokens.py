"""Token ids and labels of training against plain transformers."""

from __future__ import annotations

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.checks.plain import media_paths, spoken
from sightline.data import IGNORE_INDEX
from sightline.evaluation import ProbeSample


def same_ids(context: VerifyContext) -> Finding:
    """Every probe sample has the ids that the saved processor makes of it."""
    faults = []
    for sample in context.probe.samples:
        made = context.trimmed(sample)["input_ids"][0]
        if made.shape != sample.input_ids.shape or bool((made != sample.input_ids).any()):
            faults.append(f"{_where(sample)}: {len(made)} ids, trained on {len(sample.input_ids)}")
    return Finding(
        id="tokens.same_ids",
        title="Token ids equal those of plain transformers",
        holds=not faults,
        measured=f"{len(faults)} of {len(context.probe.samples)} samples differ",
        tolerance="0 samples",
        figures={"num_samples": len(context.probe.samples), "num_differing": len(faults)},
        detail="; ".join(faults[:3]),
        advice=""
        if not faults
        else f"The chat template, the tokenizer or the pixel budget in "
        f"{context.probe.artefact}/ is not the one that trained. Export again.",
    )


def labels_on_answers(context: VerifyContext) -> Finding:
    """Labels spell the answers and their closing tokens, one run each, and nothing else."""
    tokenizer, tokens = context.checkpoint.processor.tokenizer, context.checkpoint.family.tokens
    faults = []
    for sample in context.probe.samples:
        wanted = [
            spoken(turn) + tokens.turn_end
            for turn in sample.messages
            if turn["role"] == "assistant"
        ]
        spelled = [tokenizer.decode(run) for run in _runs(sample.labels.tolist())]
        moved = (sample.labels != IGNORE_INDEX) & (sample.labels != sample.input_ids)
        if spelled != wanted:
            faults.append(f"{_where(sample)}: labels spell {spelled!r}, the answers are {wanted!r}")
        elif bool(moved.any()):
            faults.append(f"{_where(sample)}: a label is not the token it stands on")
    return Finding(
        id="tokens.labels",
        title="Labels cover answers and their closing token, nothing else",
        holds=not faults,
        measured=f"{len(faults)} of {len(context.probe.samples)} samples at fault",
        tolerance="0 samples",
        figures={"num_differing": len(faults)},
        detail="; ".join(faults[:2]),
        advice="" if not faults else "Train again; the labels of this run were wrong.",
    )


def media_size(context: VerifyContext) -> Finding:
    """How many samples were shrunk: others see their media as the saved processor gives them."""
    data = context.run.read_state().get("data") or {}
    num_samples = int(data.get("input", 0))
    num_shrunk = int((data.get("policies") or {}).get("shrink", 0))
    return Finding(
        id="tokens.media_size",
        title="Media reach the model at the size they trained at",
        holds=None,
        measured=f"{num_shrunk} of {num_samples} training samples were shrunk to fit max_length",
        tolerance="-",
        figures={"num_samples": num_samples, "num_shrunk": num_shrunk},
        detail=""
        if not num_shrunk
        else "The other checks look at them at the size that trained. The saved processor gives "
        "them more pixels, which the model has not seen with these questions.",
        advice=""
        if not num_shrunk
        else "Lower data.images.max_pixels or data.videos.max_pixels, which is saved with the "
        "model, or raise data.max_length. ledger.jsonl has shrunk_to for each sample.",
    )


def media_pixels(context: VerifyContext) -> Finding:
    """How many pictures transformers by itself reads with other pixels than training did."""
    paths = [
        path for sample in context.probe.samples for path in media_paths(sample.messages, "image")
    ]
    others = [path for path in paths if path in context.misread]
    return Finding(
        id="tokens.media_pixels",
        title="Plain transformers reads these pictures as trained",
        holds=None,
        measured=f"{len(others)} of {len(paths)} pictures are read otherwise by transformers' "
        "load_image(path)",
        tolerance="-",
        figures={"num_pictures": len(paths), "num_differing": len(others)},
        detail=""
        if not others
        else f"transparency or 16 bits a grey: {', '.join(others[:3])}. The other checks look at "
        "them as training did.",
        advice=""
        if not others
        else "Open such pictures with sightline.data.images.load_image and hand over the picture "
        "instead of its path, or save them as RGB first.",
    )


def _runs(labels: list[int]) -> list[list[int]]:
    """Runs of neighbouring labels."""
    runs: list[list[int]] = []
    before = IGNORE_INDEX
    for token in labels:
        if token != IGNORE_INDEX:
            if before == IGNORE_INDEX:
                runs.append([])
            runs[-1].append(token)
        before = token
    return runs


def _where(sample: ProbeSample) -> str:
    return f"{sample.file}:{sample.line}"
