"""Faults in logits, answers and serving, each found by its check."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sightline.checks import answers, logits, memorised
from sightline.checks.context import VerifyContext, flat_positions
from sightline.config import load_config
from sightline.evaluation import Answer, load_probe
from sightline.model import load_weights, open_checkpoint
from sightline.records import read_json

PICTURE = 0


# Logits and answers.


@pytest.mark.parametrize("sample", [0, 1])
def test_logits_that_are_no_number(copy: Any, sample: int) -> None:
    """In any sample, and the certificate can still be written."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{sample}.logits"][0, 0] = torch.nan

    copy.edit_tensors(copy.run.probe_tensors, spoil)
    copy.expect({"logits.merged"})


def test_logits_just_over_the_tolerance(copy: Any) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{copy.video}.logits"][-1, 0] += 2e-3

    copy.edit_tensors(copy.run.probe_tensors, nudge)
    findings = copy.expect({"logits.merged"})
    assert findings["logits.merged"].detail.endswith("two.jsonl:2")
    assert 1e-3 < findings["logits.merged"].figures["largest_difference"] < 3e-3


def test_an_answer_of_another_model(copy: Any) -> None:
    def swap(record: dict[str, Any]) -> None:
        sample = record["samples"][copy.picture]
        other = record["samples"][copy.video]
        sample["answer_ids"], sample["answer_gaps"] = (
            other["answer_ids"],
            [9.0] * len(other["answer_ids"]),
        )

    before = read_json(copy.run.probe)["samples"]
    assert before[copy.picture]["answer_ids"] != before[copy.video]["answer_ids"]
    copy.edit_json(copy.run.probe, swap)
    copy.expect({"answers.alone"})


def test_answers_that_must_be_memorised(copy: Any) -> None:
    """A run that learned too little holds as a copy of itself, but not against its data."""
    findings = copy.verify()
    assert findings["answers.annotated"].figures["num_exact"] < 2
    text = copy.run.config.read_text(encoding="utf-8")
    assert "answers: consistent" in text
    copy.run.config.write_text(text.replace("answers: consistent", "answers: memorised"))
    checks = list(copy.checks)
    first = checks.index("answers.alone")
    findings = copy.expect(
        {"answers.trained", "answers.memorised", "answers.annotated"},
        checks=[*checks[:first], "answers.trained", "answers.memorised", *checks[first:]],
    )
    known = findings["answers.memorised"].figures
    assert set(known["num_wrong"]) == {"without the cache", "with the cache", "through the adapter"}
    # All ways are the same model: they fail alike.
    assert 0 < min(known["num_wrong"].values()) == max(known["num_wrong"].values())
    assert known["num_wrong"]["with the cache"] < known["num_tokens"]
    assert findings["answers.trained"].figures["num_exact"] < 2


def test_an_adapter_that_knows_less_than_the_merged_model(copy: Any) -> None:
    """Its own way fails more often than the others."""
    text = copy.run.config.read_text(encoding="utf-8")
    copy.run.config.write_text(text.replace("answers: consistent", "answers: memorised"))
    copy.edit_tensors(
        copy.run.adapter / "adapter_model.safetensors",
        lambda tensors: [tensor.zero_() for name, tensor in tensors.items() if "lora_B" in name],
    )
    wrong = copy.verify()["answers.memorised"].figures["num_wrong"]
    assert wrong["through the adapter"] > wrong["with the cache"] == wrong["without the cache"]


# What an engine reads of the exported files.


@pytest.mark.parametrize("stops", [446, [446], None])
def test_settings_that_do_not_stop_after_an_answer(copy: Any, stops: Any) -> None:
    """The end of a text alone, as in base models; or nothing at all."""
    settings = copy.run.merged / "generation_config.json"
    closing, end_of_text = read_json(settings)["eos_token_id"]
    assert end_of_text == 446
    copy.edit_json(settings, lambda record: record.update(eos_token_id=stops))
    finding = copy.expect({"serving.stop_tokens"})["serving.stop_tokens"]
    assert closing not in finding.figures["stop_tokens"]
    assert finding.measured.endswith("answers end with <|im_end|>")
    assert finding.detail == "merged/generation_config.json: eos_token_id"


def test_what_an_engine_may_not_take_of_the_adapter(copy: Any) -> None:
    finding = copy.verify()["serving.adapter"]
    assert finding.holds is None
    assert finding.figures["lora_layers"] == {"language": 21}
    assert finding.figures["weights_in_full"] == {"projector": 5}
    assert "5 weights of projector in full, which engines may refuse" in finding.measured
    # The merged model is what was verified: there is nothing to look out for.
    assert finding.advice == ""


# Faults of serving: the exported files are right, and what runs them is not.


def loaded(copy: Any) -> VerifyContext:
    """The exported model as a verification loads it."""
    merged = str(copy.run.merged)
    return VerifyContext(
        run=copy.run,
        config=load_config(copy.run.config),
        probe=load_probe(copy.run),
        checkpoint=open_checkpoint(merged),
        model=load_weights(merged, dtype=torch.float32),
    )


@pytest.fixture
def context(copy: Any) -> VerifyContext:
    return loaded(copy)


def test_decoding_that_forgets_the_grids(copy: Any) -> None:
    """``generate`` with 1-D positions, as a stack does that knows no pictures."""
    assert logits.cache_equals_whole(loaded(copy)).holds
    context = loaded(copy)
    generate = context.model.generate

    def forgetful(**inputs: Any) -> Any:
        settings = {
            name: value for name, value in inputs.items() if name in ("pixel_values", "input_ids")
        }
        return generate(**flat_positions(inputs) | settings)

    context.model.generate = forgetful
    finding = logits.cache_equals_whole(context)
    assert finding.holds is False
    assert finding.figures["per_sample"][PICTURE] > 1e-2


def test_an_annotation_is_written_once(context: VerifyContext) -> None:
    """Token by token it takes longer than all else; three checks look at it."""
    given = answers.answer_each(context)
    generate, calls = context.model.generate, []

    def counted(**inputs: Any) -> Any:
        calls.append(inputs)
        return generate(**inputs)

    context.model.generate = counted
    assert logits.cache_equals_whole(context).holds
    assert len(calls) == len(context.probe.samples)
    answers.annotated(context, given)
    assert memorised.known_by_heart(context, None).holds is False
    assert len(calls) == len(context.probe.samples)


def test_padding_that_is_seen(context: VerifyContext) -> None:
    """``generate`` without the attention mask: the shorter row reads its padding."""
    given = answers.answer_each(context)
    assert answers.batched(context, given).holds
    generate = context.model.generate

    def blind(**inputs: Any) -> Any:
        return generate(**inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])})

    context.model.generate = blind
    finding = answers.batched(context, given)
    assert finding.holds is False
    assert finding.figures["num_equal"] + finding.figures["num_ties"] < 2


def test_a_loss_of_zero_with_other_answers(context: VerifyContext) -> None:
    """What the model knows word by word and does not write is a fault of inference."""
    given = answers.answer_each(context)
    known = [sample for sample in context.probe.samples if answers._knows(context, sample)]
    context.probe.samples[:] = known
    assert known, "the run learned nothing; train it longer"
    exact = answers.answer_each(context)
    assert answers.annotated(context, exact).holds
    finding = answers.annotated(context, [Answer(given[0].ids[:1], [9.0]) for _ in known])
    assert finding.holds is False
    assert "inference does not see what training saw" in finding.advice
