"""How far weights have moved: those of LoRA as merged, large ones by a sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from sightline.training.watching import WeightChange
from sightline.training.watching.weight_change import SAMPLED_VALUES
from sightline.tuning import Place

RANK, ALPHA = 4, 8


class Layers(nn.Module):
    """One layer of every class that LoRA adapts here."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(24, 16, bias=False)
        self.conv = nn.Conv3d(3, 10, kernel_size=(2, 4, 4), stride=(2, 4, 4), bias=False)
        self.embedding = nn.Embedding(30, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_change_of_lora_is_that_of_the_merged_weights(variant: str) -> None:
    torch.manual_seed(1)
    base = Layers()
    before = {name: one.detach().clone() for name, one in base.named_parameters()}
    names = ["linear", "conv", "embedding"]
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=names, **VARIANTS[variant])
    adapted = get_peft_model(base, settings)
    change = WeightChange(
        adapted,
        [],
        lambda name: Place(name, "all", "mlp"),  # type: ignore[arg-type]
    )
    assert change.by_tower(always=True) == pytest.approx(dict.fromkeys(names, 0.0), abs=1e-6)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    found = change.by_tower(always=True)
    merged = adapted.merge_and_unload()
    after = dict(merged.named_parameters())
    wanted = {
        name: float((after[f"{name}.weight"] - old).norm() / old.norm())
        for name, old in ((name, before[f"{name}.weight"]) for name in names)
    }
    assert found == pytest.approx(wanted, rel=1e-4)
    assert min(wanted.values()) > 0.1


def test_no_update_is_ever_materialised(monkeypatch: pytest.MonkeyPatch) -> None:
    base = nn.Sequential(nn.Linear(4096, 4096, bias=False, dtype=torch.bfloat16))
    adapted = get_peft_model(base, LoraConfig(r=RANK, target_modules=["0"]))
    change = WeightChange(adapted, [], lambda name: Place("language", "all", "mlp"))
    change.by_tower(always=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        change.by_tower(always=True)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 4096 * 4096


def test_full_weights_are_told_from_a_sample_of_all_columns() -> None:
    torch.manual_seed(2)
    # A power of two in every dimension: the stride that comes to mind sees 4 columns of 256.
    model = nn.Sequential(nn.Linear(256, 4096, bias=False))
    weight = model[0].weight
    change = WeightChange(
        model, list(model.named_parameters()), lambda name: Place("language", "all", "mlp")
    )
    start = weight.detach().clone()
    with torch.no_grad():
        weight[:, 1::2] += 0.01
    weight.requires_grad_(False)
    found = change.by(lambda place: place.tower)["language"]
    assert found == pytest.approx(float((weight - start).norm() / start.norm()), rel=0.05)
    [(_, kept)] = change._weights
    assert SAMPLED_VALUES * 0.9 < kept._start.numel() <= SAMPLED_VALUES  # type: ignore[union-attr]


def test_changes_are_told_by_any_part_of_a_place() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    change = WeightChange(
        model,
        list(model.named_parameters()),
        lambda name: Place("language", f"layers.{name[0]}", "mlp"),
    )
    with torch.no_grad():
        model[1].weight.mul_(2)
        model[1].bias.mul_(2)
    assert change.by(lambda place: place.block) == pytest.approx({"layers.0": 0, "layers.1": 1})


@pytest.mark.parametrize(("cost", "every"), [(0.001, 1), (0.055, 6), (0.245, 25)])
def test_measuring_takes_no_more_than_its_share(cost: float, every: int) -> None:
    model = nn.Linear(2, 2)
    times = [0.0]

    def clock() -> float:
        return times[0]

    change = WeightChange(
        model, list(model.named_parameters()), lambda name: Place("head", "all", "mlp"), clock
    )
    real = change.by

    def slow(group: Any) -> Any:
        times[0] += cost
        return real(group)

    change.by = slow  # type: ignore[method-assign]
    measured = []
    for line in range(100):
        times[0] += 1.0
        if change.by_tower() is not None:
            measured.append(line)
    gaps = {after - before for before, after in pairwise(measured)}
    assert measured[0] == 0
    assert gaps == {every}
    assert change.by_tower(always=True) is not None
