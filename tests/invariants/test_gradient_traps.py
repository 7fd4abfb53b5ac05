"""Which tensors get gradients, and what runs for it (row E8 of the stack's traps, D20 and D22).

D21, accumulation, is in test_accumulation.py. Every test shows the trap in plain transformers
first; where that part fails, a newer release has mended it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.errors import ConfigError
from sightline.model import (
    Checkpoint,
    follow_engine,
    load_weights,
    merge,
    open_checkpoint,
    return_losses,
)
from sightline.preparation import make_encoder
from sightline.training.arguments import training_arguments
from sightline.training.loss import model_loss
from sightline.training.proof import GradientProof, prove_gradients
from sightline.training.steps import TrainingData
from sightline.training.trainer import SightlineTrainer
from sightline.tuning import TuningPlan, apply_plan, named_parameters, place_of, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FROZEN = {"language": "freeze", "projector": "freeze", "vision": "freeze"}
MENDED = "plain transformers does not do this any more: the trap is mended upstream"
BLOCKS = {"mode": "freeze", "parts": [{"mode": "full", "blocks": "0-"}]}
SETTINGS: dict[str, dict[str, Any]] = {
    "language lora": {"language": "lora"},
    "language full": {"language": "full"},
    "vision lora": {"vision": "lora"},
    "vision full": {"vision": "full"},
    "vision blocks": {"vision": BLOCKS},
    "projector lora": {"projector": "lora"},
    "projector full": {"projector": "full"},
    "projector beside lora": {"language": "lora", "projector": "full"},
    "towers lora": {"language": "lora", "projector": "lora", "vision": "lora"},
    "vision full beside lora": {"language": "lora", "vision": "full"},
    "dora": {"language": "lora", "vision": "lora", "lora": {"dora": True}},
    "head": {"head": "full"},
    "embeddings": {"embeddings": "full"},
    "everything": dict.fromkeys((*FROZEN, "embeddings", "head"), "full"),
}


class Bench:
    """A tiny checkpoint, and samples with and without a picture."""

    def __init__(self, family: str, folder: Path, data: Path) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(str(folder))
        encoder = make_encoder(self.checkpoint)
        file = Source(path=str(data / "train.jsonl"))
        self.samples = [encoder.encode(each) for each in read_source(file)][:2]
        self.collator = Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=self.checkpoint.position_rule,
            pad_token_id=0,
        )

    def model(self) -> Any:
        model = load_weights(self.checkpoint.source, dtype=torch.float32)
        return return_losses(follow_engine(model, self.checkpoint.position_rule, check_given=False))

    def planned(self, **tuning: Any) -> tuple[Any, TuningPlan]:
        model = self.model()
        settings = TuningConfig.model_validate(FROZEN | tuning)
        plan = resolve_plan(model, self.checkpoint.family, settings, TrainingConfig())
        torch.manual_seed(0)
        model = apply_plan(model, plan)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # as after a step: with B zero, A has no gradient
                parameter.data.normal_(std=0.05)
        return model.train(), plan

    def batch(self) -> dict[str, torch.Tensor]:
        return dict(self.collator(self.samples[:1]))

    def tower(self, name: str) -> str:
        return place_of(name, self.checkpoint.family.modules).tower


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def bench(request, tiny_folder, shapes_folder) -> Bench:
    return Bench(request.param, tiny_folder(request.param), shapes_folder)


def gradients(
    model: Any, batch: dict[str, torch.Tensor], *, reentrant: bool | None
) -> dict[str, torch.Tensor | None]:
    """Gradients of what trains; without checkpointing where ``reentrant`` is None."""
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if not reentrant:  # as the trainer does; the other kind needs what transformers has hooked
            for module in model.modules():
                if isinstance(module, PreTrainedModel):
                    module.disable_input_require_grads()
    loss, _ = model_loss(model, dict(batch), num_tokens=1)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("tuning", SETTINGS.values(), ids=SETTINGS)
def test_checkpointing_gives_every_gradient(bench: Bench, tuning: dict[str, Any]) -> None:
    batch = bench.batch()
    whole = gradients(bench.planned(**tuning)[0], batch, reentrant=None)
    again = gradients(bench.planned(**tuning)[0], batch, reentrant=False)
    assert whole.keys() == again.keys()
    for name, gradient in whole.items():
        assert gradient is not None, name
        assert again[name] is not None, name
        gap = float((again[name] - gradient).norm() / gradient.norm())  # type: ignore[operator]
        assert gap < 1e-5, name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tuning", [{"vision": "lora"}, {"vision": BLOCKS}], ids=["lora", "blocks"])
def test_d20_the_reentrant_kind_loses_the_vision_blocks(
    bench: Bench, tuning: dict[str, Any]
) -> None:
    model, plan = bench.planned(**tuning)
    whole = gradients(bench.planned(**tuning)[0], bench.batch(), reentrant=None)
    found = gradients(model, bench.batch(), reentrant=True)
    assert all(gradient is not None for gradient in whole.values())
    assert {bench.tower(_plain(name)) for name in found} == {"vision"}
    if bench.checkpoint.family.key == "qwen3_vl":
        assert all(gradient is None for gradient in found.values()), MENDED
        model, _ = bench.planned(**tuning)
        model.gradient_checkpointing_enable({"use_reentrant": True})
        lost = _proven(bench, model, plan)
        assert not lost.holds
        assert "the reentrant kind, which loses the gradients" in lost.message()
    else:  # transformers knows the patch embedding of these as an input, and hooks it
        assert all(gradient is not None for gradient in found.values())
    held = _proven(bench, _checkpointed(bench.planned(**tuning)[0]), plan)
    assert (held.holds, held.checkpointing) == (True, "non-reentrant")


def _plain(name: str) -> str:
    return name.removeprefix("base_model.model.")


def _proven(bench: Bench, model: Any, plan: TuningPlan) -> GradientProof:
    exact = torch.autocast("cpu", enabled=False)
    family = bench.checkpoint.family
    return prove_gradients(model, plan, family, bench.samples[:1], [bench.batch()], exact)


def _checkpointed(model: Any) -> Any:
    """With checkpointing as the arguments of a run ask for it."""
    arguments = training_arguments(
        TrainingConfig(), directory=Path("x"), bf16=False, evaluates=False
    )
    model.gradient_checkpointing_enable(_kwargs_of(arguments))
    return model


def _kwargs_of(arguments: Any) -> Any:
    """How checkpointing is done; transformers 5.23 has another name for it."""
    new, old = "activation_checkpointing", "gradient_checkpointing"
    name = new if hasattr(arguments, new) else old
    assert getattr(arguments, name)
    return getattr(arguments, f"{name}_kwargs")


def test_d20_no_key_asks_for_the_reentrant_kind(tmp_path: Path) -> None:
    from sightline.config import load_config

    file = tmp_path / "run.yaml"
    file.write_text("model: a/b\noutput: runs/one\ndata: {train: a.jsonl}\n")
    for key in ("gradient_checkpointing_kwargs={use_reentrant: true}", "use_reentrant=true"):
        with pytest.raises(ConfigError, match="there is no such key"):
            load_config(file, [f"training.{key}"])
    on = training_arguments(TrainingConfig(), directory=tmp_path, bf16=False, evaluates=False)
    assert _kwargs_of(on) == {"use_reentrant": False}


def _text_only(bench: Bench) -> dict[str, torch.Tensor]:
    """A batch without media: the answer alone."""
    batch = bench.batch()
    keep = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
    pads = [bench.checkpoint.position_rule.image_token_id]
    columns = ~torch.isin(keep["input_ids"][0], torch.tensor(pads))
    made = {key: value[:, columns] for key, value in keep.items()}
    made["attention_mask"] = torch.ones_like(made["input_ids"])
    made["position_ids"] = torch.arange(int(columns.sum())).expand(4, 1, -1)
    return made


def test_a_batch_without_media_reaches_no_vision(bench: Bench) -> None:
    model, _ = bench.planned(**SETTINGS["everything"])
    found = gradients(model, _text_only(bench), reentrant=None)
    without = {bench.tower(_plain(name)) for name, gradient in found.items() if gradient is None}
    assert without == {"vision", "projector"}
    model, _ = bench.planned(vision="full", projector="full")
    loss, _ = model_loss(model, _text_only(bench), num_tokens=1)
    assert loss.grad_fn is None, MENDED
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss.backward()


def test_a_plan_that_a_batch_without_media_cannot_reach_is_said(bench: Bench) -> None:
    family = bench.checkpoint.family
    text: list[EncodedSample] = []
    for tuning in ({"vision": "full", "projector": "full"}, {"language": "lora", "vision": "lora"}):
        model, plan = bench.planned(**tuning)
        proof = prove_gradients(
            model, plan, family, text, [_text_only(bench)], torch.autocast("cpu", enabled=False)
        )
        assert not proof.holds
        assert {fault.tower for fault in proof.faults} <= {"vision", "projector"}
        assert "No sample that was looked at has a picture or a video" in proof.message()


def _watch(model: nn.Module) -> Callable[[], set[str]]:
    """Names of the blocks that a backward pass runs through."""
    seen: set[str] = set()
    for name, module in model.named_modules():
        if name.endswith(".mlp") and (".blocks." in name or ".layers." in name):
            # A tower, and the number of a block.
            tower = "vision" if ".blocks." in name else "language"
            word = f"{tower} {name.split('.')[-2]}"
            module.register_full_backward_hook(lambda *_, word=word: seen.add(word))
    return lambda: seen


LAST = "model.language_model.layers.2.self_attn.q_proj"


@pytest.mark.filterwarnings("ignore")
def test_checkpointing_sends_the_backward_pass_through_what_is_frozen(
    bench: Bench, tmp_path: Path
) -> None:
    """transformers lets the embeddings' outputs require a gradient, for the reentrant kind."""
    plain = get_peft_model(bench.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=[LAST]))
    seen = _watch(plain)
    plain.train()
    model_loss(plain, bench.batch(), num_tokens=1)[0].backward()
    assert seen() == {"language 2"}
    plain.gradient_checkpointing_enable({"use_reentrant": False})
    model_loss(plain, bench.batch(), num_tokens=1)[0].backward()
    language = {"language 0", "language 1", "language 2"}
    # Of Qwen3-VL's vision tower the patch embedding is not known to transformers as an input.
    vision = set() if bench.checkpoint.family.key == "qwen3_vl" else {"vision 0", "vision 1"}
    assert seen() == language | vision, MENDED
    last = {"mode": "freeze", "parts": [{"mode": "lora", "blocks": "last 1"}]}
    assert _blocks_of_a_run(bench, tmp_path, language=last) == {"language 2"}
    assert _blocks_of_a_run(bench, tmp_path, language="lora") == language
    assert _blocks_of_a_run(bench, tmp_path, head="full") == set()


def _blocks_of_a_run(bench: Bench, folder: Path, **tuning: Any) -> set[str]:
    model, plan = bench.planned(**tuning)
    seen = _watch(model)
    training = TrainingConfig(max_steps=1, gradient_accumulation=1)
    arguments = training_arguments(training, directory=folder, bf16=False, evaluates=False)
    arguments.save_strategy = "no"
    assert _kwargs_of(arguments)
    SightlineTrainer(
        plan=plan,
        model=model,
        args=arguments,
        data=TrainingData.of(bench.samples[:1], training),
        collator=bench.collator,
    ).train()
    return seen()


def _tables(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")}


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
def test_d22_a_cast_model_rounds_its_rotary_frequencies(bench: Bench, cast: torch.dtype) -> None:
    right = _tables(load_weights(bench.checkpoint.source, dtype=torch.float32))
    plain: Any = load_weights(bench.checkpoint.source, dtype=torch.float32)
    rounded = _tables(plain.to(cast))
    name = next(name for name in right if "language_model" in name)
    assert rounded[name].dtype == cast, MENDED
    # Radians at position 4096; of the many frequencies of a released model it is 4.7 in bf16.
    phase = 4096 * (rounded[name].double() - right[name].double()).abs().max()
    assert phase > 0.1, MENDED
    loaded = load_weights(bench.checkpoint.source, dtype=cast)
    assert {table.dtype for table in _tables(loaded).values()} == {torch.float32}
    assert all(torch.equal(table, right[key]) for key, table in _tables(loaded).items())


def test_d22_what_a_run_does_leaves_them_as_they_are(bench: Bench) -> None:
    """Loading in bf16, a plan with weights in float32, training, and merging."""
    right = _tables(bench.model())
    model = load_weights(bench.checkpoint.source, dtype=torch.bfloat16)
    tuning = TuningConfig.model_validate(FROZEN | {"language": "lora", "projector": "full"})
    plan = resolve_plan(model, bench.checkpoint.family, tuning, TrainingConfig())
    planned = apply_plan(model, plan)
    trains = {item.parameter.dtype for item in named_parameters(planned) if item.factor}
    assert trains == {torch.float32}
    frozen = {item.parameter.dtype for item in named_parameters(planned) if item.is_copy}
    assert frozen == {torch.bfloat16}
    for found in (_tables(planned), _tables(merge(planned, torch.bfloat16))):
        assert len(found) == len(right)
        for name, table in found.items():
            key = name.removeprefix("base_model.model.")
            assert torch.equal(table, right[key]), name
    arguments = training_arguments(TrainingConfig(), directory=Path("x"), bf16=True, evaluates=True)
    assert not arguments.bf16_full_eval
    assert not arguments.fp16_full_eval
