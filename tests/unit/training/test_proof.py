"""The proof sees what does not train as the plan says, and says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.model import follow_engine, load_weights, open_checkpoint, return_losses
from sightline.preparation import make_encoder
from sightline.training.proof import GradientProof, prove_gradients
from sightline.tuning import apply_plan, resolve_plan

PLANS = {
    "lora beside a full projector": {"language": "lora"},
    "everything in full": {
        "language": "full",
        "vision": "full",
        "embeddings": "full",
        "head": "full",
    },
    "lora everywhere": {
        "language": "lora",
        "vision": "lora",
        "projector": "lora",
        "embeddings": "lora",
        "head": "lora",
    },
    "dora": {"language": "lora", "lora": {"dora": True}},
    "projector alone": {"language": "freeze"},
}


class Bench:
    """A tiny model under a plan, with a sample that has a picture and one that has none."""

    def __init__(self, folder: str, picture: EncodedSample, text: EncodedSample) -> None:
        self.checkpoint = open_checkpoint(folder)
        self.samples = {"picture": picture, "text": text}
        self._collate: Any = Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=self.checkpoint.position_rule,
            pad_token_id=0,
        )

    def planned(self, **tuning: Any) -> Any:
        torch.manual_seed(0)
        model: Any = follow_engine(
            load_weights(self.checkpoint.source, dtype=torch.float32),
            self.checkpoint.position_rule,
        )
        config = TuningConfig.model_validate(tuning)
        self.plan = resolve_plan(model, self.checkpoint.family, config, TrainingConfig())
        model = apply_plan(return_losses(model), self.plan)
        return model.train()

    def prove(self, model: Any, *names: str) -> GradientProof:
        samples = [self.samples[name] for name in names or ("picture",)]
        batches = [self._collate([sample]) for sample in samples]
        return prove_gradients(
            model, self.plan, self.checkpoint.family, samples, batches, nullcontext()
        )


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def bench(request, tiny_folder, shapes_folder, tmp_path_factory) -> Bench:
    folder = str(tiny_folder(request.param))
    encoder = make_encoder(open_checkpoint(folder))
    picture = next(
        sample
        for conversation in read_source(Source(path=str(shapes_folder / "train.jsonl")))
        if (sample := encoder.encode(conversation)).images
    )
    words = tmp_path_factory.mktemp("words") / "train.jsonl"
    words.write_text(
        '{"messages": [{"role": "user", "content": "Two colours?"}, '
        '{"role": "assistant", "content": "red and blue"}]}\n',
        encoding="utf-8",
    )
    text = encoder.encode(next(iter(read_source(Source(path=str(words))))))
    return Bench(folder, picture, text)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_is_followed_is_proven(bench: Bench, name: str) -> None:
    model = bench.planned(**PLANS[name])
    proof = bench.prove(model)
    assert proof.holds, proof.message()
    trained = sum(p.requires_grad for p in model.parameters())
    assert sum(row.num_tensors for row in proof.rows) == trained
    assert proof.num_frozen == sum(1 for _ in model.parameters()) - trained
    # A factor waits while its partner is zero; everything else is reached.
    waiting = sum(row.num_waiting for row in proof.rows)
    assert waiting == len(bench.plan.lora_modules)
    assert sum(row.num_reached for row in proof.rows) == trained - waiting
    assert all(row.gradient_norm > 0 for row in proof.rows)
    assert all(p.grad is None for p in model.parameters())


def test_a_factor_waits_only_while_its_partner_is_zero(bench: Bench) -> None:
    model = bench.planned(language="lora", projector="freeze")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.01)
    proof = bench.prove(model)
    assert proof.holds
    assert sum(row.num_waiting for row in proof.rows) == 0


def _thaw(bench: Bench, model: Any) -> Callable[[], None]:
    """Something sets a frozen weight free after the plan: here, in the forward pass."""
    vision = model.get_submodule(f"base_model.model.{bench.checkpoint.family.modules.vision}")

    def free(module: Any, *_: Any) -> None:
        for parameter in module.blocks[0].parameters():
            parameter.requires_grad_(True)

    return vision.register_forward_pre_hook(free).remove


def test_a_frozen_weight_with_a_gradient_is_seen(bench: Bench) -> None:
    model = bench.planned()
    _thaw(bench, model)
    proof = bench.prove(model)
    assert not proof.holds
    assert {(fault.tower, fault.what) for fault in proof.faults} == {
        ("vision", "a gradient though it is frozen")
    }
    assert "made it require a gradient after the plan" in proof.message()


def test_text_alone_reaches_no_projector(bench: Bench) -> None:
    model = bench.planned()
    proof = bench.prove(model, "text")
    assert {fault.tower for fault in proof.faults} == {"projector"}
    assert "No sample that was looked at has a picture" in proof.cause
    assert bench.prove(model, "picture", "text").holds


def test_text_alone_under_a_plan_for_the_projector_alone(bench: Bench) -> None:
    model = bench.planned(language="freeze")
    proof = bench.prove(model, "text")
    assert {fault.what for fault in proof.faults} == {"no gradient"}
    assert "No sample that was looked at has a picture" in proof.cause


def test_a_cut_in_the_forward_pass_is_seen(bench: Bench) -> None:
    model = bench.planned()
    merger = model.get_submodule(
        f"base_model.model.{bench.checkpoint.family.modules.projectors[0]}"
    )
    merger.register_forward_hook(lambda module, given, out: out.detach())
    proof = bench.prove(model)
    assert {fault.tower for fault in proof.faults} == {"projector"}
    assert "does not use it, or cuts its gradient" in proof.cause


def test_a_gradient_of_zeros_is_seen(bench: Bench) -> None:
    model = bench.planned()
    merger = model.get_submodule(
        f"base_model.model.{bench.checkpoint.family.modules.projectors[0]}"
    )
    merger.register_forward_hook(lambda module, given, out: out * 0.0)
    proof = bench.prove(model)
    assert ("projector", "a gradient of zeros") in {(f.tower, f.what) for f in proof.faults}
    assert not proof.holds


def test_what_is_not_finite_is_seen(bench: Bench) -> None:
    model = bench.planned()
    head = model.get_submodule(f"base_model.model.{bench.checkpoint.family.modules.head}")
    head.register_forward_hook(lambda module, given, out: out * float("inf"))
    proof = bench.prove(model)
    assert not proof.holds
    assert "a gradient that is not finite" in {fault.what for fault in proof.faults}
    assert "Values overflow on the way" in proof.cause


def test_reentrant_checkpointing_is_named(bench: Bench) -> None:
    model = bench.planned(language="freeze", projector="freeze", vision="lora")
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": True})
    proof = bench.prove(model)
    assert proof.checkpointing == "reentrant"
    loses = bench.checkpoint.family.key == "qwen3_vl"
    assert proof.holds != loses
    if loses:
        assert "the reentrant kind, which loses the gradients" in proof.cause
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    again = bench.prove(model)
    assert again.holds
    assert again.checkpointing == "non-reentrant"


def test_random_numbers_go_on_as_if_nothing_had_been(bench: Bench) -> None:
    model = bench.planned(lora={"dropout": 0.5})
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    bench.prove(model)
    assert torch.equal(torch.rand(4), expected)
