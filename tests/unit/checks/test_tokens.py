"""Token ids and labels of a probe against the saved processor. No weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.checks.context import VerifyContext
from sightline.checks.plan import gradients_reached
from sightline.checks.positions import same_as_training
from sightline.checks.tokens import labels_on_answers, same_ids
from sightline.config import RunConfig, Source
from sightline.data import IGNORE_INDEX, Collator, ProcessorPixels, chat_messages, read_source
from sightline.evaluation import Probe, ProbeSample, SeenPixels
from sightline.model import open_checkpoint
from sightline.preparation import make_encoder
from sightline.records import RunDirectory

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module", params=FAMILIES)
def bench(request, tiny_folder, shapes_folder: Path):
    """A checkpoint, and a probe of every synthetic sample as training encodes it."""
    # With a run's settings: the frame rate is written down, as it is in an exported folder.
    settings = RunConfig.model_validate({"model": "m", "output": "o", "data": {"train": ["a"]}})
    checkpoint = open_checkpoint(str(tiny_folder(request.param)), settings.data)
    encoder = make_encoder(checkpoint)
    collator = Collator(
        pixels=ProcessorPixels(checkpoint.processor), rule=checkpoint.position_rule, pad_token_id=0
    )
    data = shapes_folder / "train.jsonl"
    samples = []
    for index, conversation in enumerate(read_source(Source(path=str(data)))):
        batch = collator([encoder.encode(conversation)])
        samples.append(
            ProbeSample(
                index=index,
                file="train.jsonl",
                line=index + 1,
                messages=chat_messages(conversation),
                max_new_tokens=1,
                pixels=SeenPixels(grids=[], digest=""),
                answer_ids=[],
                answer_gaps=[],
                input_ids=batch["input_ids"][0],
                labels=batch["labels"][0],
                position_ids=batch["position_ids"][1:, 0],
                columns=torch.tensor([0]),
                logits=torch.zeros(1, 1),
            )
        )
    return checkpoint, samples


@pytest.fixture
def context(bench) -> Callable[..., VerifyContext]:
    """A verification of these samples, one of them changed."""
    checkpoint, samples = bench

    def make(index: int = 0, **changes: torch.Tensor) -> VerifyContext:
        changed = list(samples)
        changed[index] = replace(samples[index], **changes)
        return VerifyContext(
            run=RunDirectory(Path("run")),
            config=RunConfig.model_validate(
                {"model": "m", "output": "o", "data": {"train": ["a"]}}
            ),
            probe=Probe(samples=changed, base="b", dtype="float32", uses_adapter=True),
            checkpoint=checkpoint,
            model=None,
        )

    return make


def _changed(tensor: torch.Tensor, place: tuple | int, value: int) -> torch.Tensor:
    made = tensor.clone()
    made[place] = value
    return made


def test_what_training_encodes_is_what_transformers_makes(context) -> None:
    found = context()
    assert len(found.probe.samples) == 7
    for check in (same_ids, labels_on_answers, same_as_training):
        finding = check(found)
        assert finding.holds is True, finding
        assert finding.figures["num_differing"] == 0
        assert (finding.detail, finding.advice) == ("", "")


def test_one_other_id_is_seen(context, bench) -> None:
    ids = bench[1][3].input_ids
    finding = same_ids(context(3, input_ids=_changed(ids, -1, int(ids[-1]) + 1)))
    assert finding.holds is False
    assert finding.measured == "1 of 7 samples differ"
    assert finding.detail == f"train.jsonl:4: {len(ids)} ids, trained on {len(ids)}"


def test_one_id_too_few_is_seen(context, bench) -> None:
    ids = bench[1][0].input_ids
    finding = same_ids(context(0, input_ids=ids[:-1]))
    assert finding.holds is False
    assert finding.detail == f"train.jsonl:1: {len(ids)} ids, trained on {len(ids) - 1}"


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|vision_start|>", "<|vision_end|>"])
def test_a_label_on_a_picture_is_seen(context, bench, token: str) -> None:
    checkpoint, samples = bench
    wanted = checkpoint.processor.tokenizer.convert_tokens_to_ids(token)
    sample = samples[0]
    place = int((sample.input_ids == wanted).nonzero()[0])
    labels = _changed(sample.labels, place, wanted)
    finding = labels_on_answers(context(0, labels=labels))
    assert finding.holds is False
    assert finding.detail.startswith("train.jsonl:1: ")


def test_any_label_too_many_is_seen(context, bench) -> None:
    """On every token that is no answer, one after the other."""
    sample = bench[1][2]
    free = (sample.labels == IGNORE_INDEX).nonzero()[:, 0].tolist()
    missed = [
        place
        for place in free
        if labels_on_answers(
            context(2, labels=_changed(sample.labels, place, int(sample.input_ids[place])))
        ).holds
    ]
    assert missed == [], f"{len(missed)} of {len(free)} places"


def test_any_label_too_few_is_seen(context, bench) -> None:
    sample = bench[1][2]
    supervised = (sample.labels != IGNORE_INDEX).nonzero()[:, 0].tolist()
    missed = [
        place
        for place in supervised
        if labels_on_answers(context(2, labels=_changed(sample.labels, place, IGNORE_INDEX))).holds
    ]
    assert missed == [], f"{len(missed)} of {len(supervised)} places"


def test_a_label_of_another_token_is_seen(context, bench) -> None:
    sample = bench[1][2]
    first, second = (sample.labels != IGNORE_INDEX).nonzero()[:2, 0].tolist()
    labels = _changed(sample.labels, first, int(sample.labels[second]))
    assert labels_on_answers(context(2, labels=labels)).holds is False


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_position_off_by_one_is_seen(context, bench, axis: int) -> None:
    positions = bench[1][3].position_ids
    moved = _changed(positions, (axis, -1), int(positions[axis, -1]) + 1)
    finding = same_as_training(context(3, position_ids=moved))
    assert finding.holds is False
    assert finding.measured == "1 of 7 samples differ"
    assert finding.detail == "train.jsonl:4"


@pytest.mark.parametrize(
    ("missed", "watched", "holds"), [([], 3, True), (["a"], 3, False), ([], 0, None)]
)
def test_gradients_hold_only_where_they_were_watched(
    context, missed: list[str], watched: int, holds: bool | None
) -> None:
    found = context()
    found.probe = replace(found.probe, without_gradient=missed, num_watched=watched)
    assert gradients_reached(found).holds is holds
