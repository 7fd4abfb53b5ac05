"""Adapters, merged models and their bases (rows E7 of the stack's traps, D17 to D19).

Every test shows the trap in plain PEFT and transformers first. Where that part fails, a newer
release has mended it, and what is said of it here can go.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, ProcessorPixels, read_source
from sightline.errors import ModelError, PlanError
from sightline.model import (
    Checkpoint,
    load_adapter,
    load_weights,
    make_tiny_model,
    merge,
    open_adapter,
    open_checkpoint,
    save_adapter,
    save_merged,
)
from sightline.preparation import make_encoder
from sightline.tuning import apply_plan, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TOLERANCE = 1e-3  # of logits with a spread of 2.4: verify's own; fp32 rounding is up to 2e-4
VISIBLE = 0.3
MENDED = "plain PEFT is right now: the trap is mended upstream"
FROZEN = {"language": "freeze", "projector": "freeze", "vision": "freeze"}
WEIGHTS = "adapter_model.safetensors"


class Bench:
    """A tiny checkpoint, tied or not, and one conversation with a picture."""

    def __init__(self, family: str, folder: Path, data: Path) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(str(folder))
        self.folder = folder
        encoder = make_encoder(self.checkpoint)
        conversation = next(iter(read_source(Source(path=str(data / "train.jsonl")))))
        collator = Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=self.checkpoint.position_rule,
            pad_token_id=0,
        )
        self.batch = collator([encoder.encode(conversation)])
        del self.batch["labels"]

    def model(self, dtype: torch.dtype = torch.float32) -> Any:
        return load_weights(str(self.folder), dtype=dtype)

    def logits(self, model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(**self.batch, use_cache=False).logits.float()

    def plain(self, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
        config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, **settings)
        torch.manual_seed(0)
        return trained(get_peft_model(self.model(dtype), config))

    def ours(self, /, dtype: torch.dtype = torch.float32, **tuning: Any) -> Any:
        model = self.model(dtype)
        plan = resolve_plan(
            model,
            self.checkpoint.family,
            TuningConfig.model_validate(FROZEN | tuning),
            TrainingConfig(),
        )
        torch.manual_seed(0)
        return trained(apply_plan(model, plan))


def trained(model: Any, scale: float = 0.05) -> Any:
    """As after some steps: LoRA's B and everything else that trains has moved."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or "lora_A" in name or "lora_embedding_B" in name:
            continue
        step = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        parameter.data += scale * step * (1 if ".lora_" in name else parameter.std())
    return model.eval()


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def bench(request, tiny_folder, shapes_folder) -> Bench:
    return Bench(request.param, tiny_folder(request.param), shapes_folder)


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def tied(request, tmp_path_factory, shapes_folder) -> Bench:
    folder = tmp_path_factory.mktemp("tied") / request.param
    return Bench(request.param, make_tiny_model(request.param, folder, tied=True), shapes_folder)


@pytest.mark.parametrize("ensure", [False, True], ids=["apart", "ensure_weight_tying"])
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
@pytest.mark.filterwarnings("ignore")
def test_d17_lora_on_one_of_two_tied_ends(tied: Bench, target: str, ensure: bool) -> None:
    adapted = tied.plain(target_modules=["q_proj", target], ensure_weight_tying=ensure)
    before = tied.logits(adapted)
    assert gap(tied.logits(adapted.merge_and_unload()), before) > VISIBLE, MENDED
    tower = {"lm_head": "head", "embed_tokens": "embeddings"}[target]
    with pytest.raises(PlanError, match=f"tuning.{tower} is lora, but this model ties its head"):
        tied.ours(torch.float32, language="lora", **{tower: "lora"})


def test_both_tied_ends_in_full_beside_lora_are_exact(tied: Bench, tmp_path: Path) -> None:
    ends = ["embed_tokens", "lm_head"]
    with pytest.warns(UserWarning, match="a tied layer is part of the adapter"):
        adapted = tied.plain(target_modules=["q_proj"], modules_to_save=ends)
    before = tied.logits(adapted)
    with pytest.warns(UserWarning, match="no longer tied after merging"):
        merged = adapted.merge_and_unload()
    assert gap(tied.logits(merged), before) < TOLERANCE
    assert merged.config.tie_word_embeddings is False
    ours = tied.ours(language="lora", embeddings="full", head="full")
    exported(tied, ours, tmp_path)
    with pytest.raises(PlanError, match="one weight cannot be frozen and trained"):
        tied.ours(language="lora", head="full")


def exported(bench: Bench, model: Any, folder: Path) -> torch.Tensor:
    """Export a trained model; every way back to it gives its logits."""
    before = bench.logits(model)
    assert gap(before, bench.logits(bench.model())) > VISIBLE, "the update is too small to see"
    save_adapter(model, bench.checkpoint, folder / "adapter")
    save_merged(merge(model, torch.float32), bench.checkpoint, folder / "merged")
    merged = load_weights(str(folder / "merged"), dtype=torch.float32)
    assert gap(bench.logits(merged), before) < TOLERANCE
    ours = open_adapter(str(bench.folder), folder / "adapter")
    assert gap(bench.logits(ours), before) < TOLERANCE
    plain = PeftModel.from_pretrained(bench.model(), str(folder / "adapter")).eval()
    assert gap(bench.logits(plain), before) < TOLERANCE
    return before


@pytest.mark.parametrize(
    "tuning",
    [
        {"language": "lora"},
        {"language": "lora", "lora": {"dora": True}},
        {"language": "lora", "lora": {"rslora": True}},
        {"vision": "lora", "projector": "lora", "lora": {"target_modules": "(?!lm_head).*"}},
        {"language": "lora", "head": "lora", "embeddings": "lora"},
        {"language": "lora", "projector": "full"},
        {
            "language": {
                "mode": "lora",
                "parts": [
                    {"blocks": "last 1", "rank": 4, "alpha": 16},
                    {"kind": "norm", "mode": "full"},
                ],
            }
        },
    ],
    ids=["lora", "dora", "rslora", "convolution", "ends", "projector", "parts"],
)
def test_a_merge_in_fp32_is_exact(bench: Bench, tmp_path: Path, tuning: dict[str, Any]) -> None:
    model = bench.ours(**tuning)
    adapted = {name for name, _ in model.named_modules() if name.endswith("base_layer")}
    convolution = any("patch_embed" in name for name in adapted)
    assert convolution == ("vision" in tuning)
    exported(bench, model, tmp_path)


def test_kinds_of_lora_are_what_they_are_called(bench: Bench) -> None:
    layer = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    for kind, scale in (({}, 2.0), ({"rslora": True}, 8.0), ({"dora": True}, 2.0)):
        adapted = bench.ours(language="lora", lora=kind).get_submodule(layer)
        assert adapted.scaling["default"] == scale  # 32 / 16, or 32 / sqrt(16)
        assert ("default" in adapted.lora_magnitude_vector) == ("dora" in kind)


def test_a_merge_in_bf16_rounds_small_updates_away(bench: Bench, tmp_path: Path) -> None:
    """It does so everywhere; the adapter beside the merged model keeps all of the update."""
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj"])
    plain = trained(get_peft_model(bench.model(torch.bfloat16), config), scale=1e-3)
    layer = "model.language_model.layers.0.self_attn.q_proj"
    asked, kept = _updates(plain, bench.model(torch.bfloat16), layer)
    unmoved = float((kept[asked != 0] == 0).double().mean())
    lost = float((kept - asked).norm() / asked.norm())
    assert unmoved > 0.1, MENDED
    assert lost > 0.05, MENDED
    model = bench.ours(torch.bfloat16, language="lora")
    wanted = _update(model, layer)
    save_adapter(model, bench.checkpoint, tmp_path / "adapter")
    back = open_adapter(str(bench.folder), tmp_path / "adapter")
    assert next(back.parameters()).dtype == torch.bfloat16
    found = _update(back, layer)
    assert wanted.dtype == found.dtype == torch.float32
    assert torch.equal(found, wanted)


def _updates(adapted: Any, base: Any, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The update that an adapter asks for, and what a merge leaves of it."""
    asked = _update(adapted, layer).double()
    merged = adapted.merge_and_unload()
    kept = merged.get_submodule(layer).weight.double() - base.get_submodule(layer).weight.double()
    return asked, kept.detach()


def _update(adapted: Any, layer: str) -> torch.Tensor:
    found = adapted.get_submodule(f"base_model.model.{layer}").get_delta_weight("default")
    return found.detach().clone()


def test_d18_an_adapter_on_its_own_merged_model(bench: Bench, tmp_path: Path) -> None:
    before = exported(bench, bench.ours(language="lora", projector="full"), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT's kind: it says not a word
        merged = load_weights(str(tmp_path / "merged"), dtype=torch.float32)
        twice = PeftModel.from_pretrained(merged, str(tmp_path / "adapter")).eval()
    assert gap(bench.logits(twice), before) > VISIBLE, MENDED
    with pytest.raises(ModelError) as caught:
        open_adapter(str(tmp_path / "merged"), tmp_path / "adapter")
    said = str(caught.value)
    assert "is not the base that this adapter was trained on" in said
    assert f"{tmp_path / 'merged'} is a model that was exported" in said


def test_an_adapter_on_another_base_is_refused(bench: Bench, tmp_path: Path) -> None:
    save_adapter(bench.ours(language="lora"), bench.checkpoint, tmp_path / "adapter")
    other = make_tiny_model(bench.checkpoint.family.key, tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="another fingerprint") as caught:
        open_adapter(str(other), tmp_path / "adapter")
    assert "exported" not in str(caught.value)
    # Of another tool's adapter nothing is known: its names alone are compared.
    (tmp_path / "adapter/sightline.json").unlink()
    assert open_adapter(str(other), tmp_path / "adapter").training is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_base_is_known_again_in_either_dtype(
    bench: Bench, tmp_path: Path, dtype: torch.dtype
) -> None:
    model = bench.ours(torch.bfloat16, language="lora", projector="full")
    save_adapter(model, bench.checkpoint, tmp_path / "adapter")
    told = json.loads((tmp_path / "adapter/sightline.json").read_text())["base"]
    assert told["dtype"] == "bfloat16"
    assert open_adapter(str(bench.folder), tmp_path / "adapter", dtype=dtype).dtype == dtype


def test_d19_names_of_before_transformers_4_52(bench: Bench, tmp_path: Path) -> None:
    model = bench.ours(language="lora")
    before = bench.logits(model)
    save_adapter(model, bench.checkpoint, tmp_path / "adapter")
    _rewrite(tmp_path / "adapter", lambda name: name.replace("model.language_model.", "model.", 1))
    with pytest.warns(UserWarning, match="missing adapter keys"):
        loaded = PeftModel.from_pretrained(bench.model(), str(tmp_path / "adapter")).eval()
    assert gap(bench.logits(loaded), bench.logits(bench.model())) == 0.0, MENDED
    assert gap(bench.logits(loaded), before) > VISIBLE
    with pytest.raises(ModelError, match=r"names of before transformers 4\.52") as caught:
        open_adapter(str(bench.folder), tmp_path / "adapter")
    num = len(load_file(tmp_path / "adapter" / WEIGHTS))
    assert f"of its {num} tensors, {num} unknown to the model" in str(caught.value)
    assert f"{num} missing" in str(caught.value)


def _rewrite(folder: Path, rename: Any) -> None:
    """Write the adapter's tensors under other names; a None leaves one out."""
    tensors = {rename(name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file({name: tensor for name, tensor in tensors.items() if name}, folder / WEIGHTS)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("left_out", ["0.self_attn.q_proj.lora_B", "visual.merger."])
def test_an_adapter_that_lacks_a_tensor_is_refused(
    bench: Bench, tmp_path: Path, left_out: str
) -> None:
    model = bench.ours(language="lora", projector="full")
    save_adapter(model, bench.checkpoint, tmp_path / "adapter")
    _rewrite(tmp_path / "adapter", lambda name: None if left_out in name else name)
    if "lora" in left_out:  # PEFT goes on without it; without a whole module it raises KeyError
        assert PeftModel.from_pretrained(bench.model(), str(tmp_path / "adapter")), MENDED
    with pytest.raises(ModelError, match=f"{left_out}.* is missing|1 missing, .*{left_out}"):
        open_adapter(str(bench.folder), tmp_path / "adapter")
    (tmp_path / "adapter" / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="the adapter cannot be loaded"):
        open_adapter(str(bench.folder), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_on_a_model_without_its_head(bench: Bench, tmp_path: Path) -> None:
    save_adapter(bench.ours(language="lora"), bench.checkpoint, tmp_path / "adapter")

    def headless() -> Any:
        return AutoModel.from_pretrained(str(bench.folder), dtype=torch.float32)

    # PEFT notices it where the adapter is told to be one of a causal model, by accident.
    with pytest.raises(AttributeError, match="prepare_inputs_for_generation"):
        PeftModel.from_pretrained(headless(), str(tmp_path / "adapter"))
    config = tmp_path / "adapter/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"task_type": None}))
    loaded = PeftModel.from_pretrained(headless(), str(tmp_path / "adapter"))
    factors = [parameter for name, parameter in loaded.named_parameters() if "lora_B" in name]
    assert factors
    assert not any(factor.any() for factor in factors), MENDED
    with pytest.raises(ModelError, match="loaded without its head"):
        load_adapter(headless(), tmp_path / "adapter")


def test_checkpoints_in_the_old_layout_load_exactly(bench: Bench, tmp_path: Path) -> None:
    model = bench.model()
    before = bench.logits(model)
    model.save_pretrained(str(tmp_path / "written"))
    names = set(load_file(tmp_path / "written/model.safetensors"))
    # transformers still writes the names of before 4.52 for the older two families.
    older = bench.checkpoint.family.key != "qwen3_vl"
    assert any(name.startswith("visual.") for name in names) == older
    assert any(name.startswith("model.language_model.") for name in names) != older
    again = load_weights(str(tmp_path / "written"), dtype=torch.float32)
    assert gap(bench.logits(again), before) == 0.0
    shutil.rmtree(tmp_path / "written")
    model.save_pretrained(str(tmp_path / "written"), save_original_format=False)
    assert "lm_head.weight" in load_file(tmp_path / "written/model.safetensors")
    newer = load_weights(str(tmp_path / "written"), dtype=torch.float32)
    assert gap(bench.logits(newer), before) == 0.0
