"""The rotary embedding by itself: dtypes, devices, layouts, compilation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sightline.errors import LayoutError, ModelError
from sightline.rotary import MRotaryEmbedding, apply_mrope, axis_of_pairs

POSITIONS = torch.stack([torch.arange(6), torch.arange(6) // 2, torch.arange(6) % 2])[:, None]


def test_text_is_one_dimensional_rope() -> None:
    rotary = MRotaryEmbedding(8, (2, 1, 1), theta=100.0)
    cos, sin = rotary(torch.tensor([0, 3]).expand(3, 1, 2))
    angles = torch.tensor([3 * 100.0 ** (-i / 4) for i in range(4)])
    torch.testing.assert_close(cos[0, 1], torch.cat([angles, angles]).cos())
    torch.testing.assert_close(sin[0, 1], torch.cat([angles, angles]).sin())
    assert cos[0, 0].tolist() == [1.0] * 8


def test_every_pair_turns_with_its_axis() -> None:
    rotary = MRotaryEmbedding(8, (2, 1, 1), theta=1.0)  # one frequency: angle = position
    cos, _ = rotary(torch.tensor([1, 2, 3]).reshape(3, 1, 1))
    wanted = torch.tensor([1.0, 1.0, 2.0, 3.0])
    torch.testing.assert_close(cos[0, 0], torch.cat([wanted, wanted]).cos())
    neighbours = MRotaryEmbedding(8, (2, 1, 1), theta=1.0, pairs="neighbours")
    cos, _ = neighbours(torch.tensor([1, 2, 3]).reshape(3, 1, 1))
    torch.testing.assert_close(cos[0, 0], wanted.repeat_interleave(2).cos())


@pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half()])
def test_no_cast_reaches_the_frequencies(cast) -> None:
    """D22: a cast model turns the fastest pair by whole radians at position 4096."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rotary = MRotaryEmbedding(64, (8, 12, 12))
            self.linear = nn.Linear(2, 2)
            self.register_buffer("naive", self.rotary.inv_freq.clone(), persistent=False)

    model = Model()
    far = torch.full((3, 1, 1), 4096)
    before = model.rotary(far)[0]
    cast(model)
    assert model.linear.weight.dtype != torch.float32
    assert model.rotary.inv_freq.dtype == torch.float32
    assert torch.equal(model.rotary(far)[0], before)
    # What happens without: an ordinary buffer is rounded.
    rounded = (4096 * model.naive.float() - 4096 * model.rotary.inv_freq).abs().max()
    assert rounded > 0.1


def test_a_model_made_on_the_meta_device_has_right_frequencies() -> None:
    with torch.device("meta"):
        rotary = MRotaryEmbedding(64, (8, 12, 12))
    assert rotary.inv_freq.device.type == "meta"
    rotary.to_empty(device="cpu")
    expected = MRotaryEmbedding(64, (8, 12, 12))(POSITIONS)[0]
    assert torch.equal(rotary(POSITIONS)[0], expected)


def test_autocast_changes_nothing() -> None:
    rotary = MRotaryEmbedding(64, (8, 12, 12))
    plain = rotary(POSITIONS + 5000)
    with torch.autocast("cpu", torch.bfloat16):
        cast = rotary(POSITIONS + 5000)
    assert cast[0].dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


def test_it_compiles_without_a_graph_break() -> None:
    rotary = MRotaryEmbedding(16, (2, 3, 3), axes="sectioned")

    def attend(query: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = rotary(positions)
        return apply_mrope(query, query, cos, sin)[0]

    query = torch.randn(1, 2, 6, 16)
    compiled = torch.compile(attend, fullgraph=True, backend="eager")
    assert torch.equal(compiled(query, POSITIONS), attend(query, POSITIONS))


def test_the_part_that_does_not_turn_is_left_alone() -> None:
    rotary = MRotaryEmbedding(16, (1, 2, 1), rotary_dim=8)
    query = torch.randn(1, 2, 6, 16)
    turned, _ = apply_mrope(query, query, *rotary(POSITIONS))
    assert torch.equal(turned[..., 8:], query[..., 8:])
    torch.testing.assert_close(turned.norm(dim=-1), query.norm(dim=-1))
    assert (turned[:, :, 1:, :8] != query[:, :, 1:, :8]).any()


def test_the_turn_is_relative() -> None:
    """Moving all positions together changes no product of a query and a key."""
    rotary = MRotaryEmbedding(16, (2, 3, 3))
    query, key = torch.randn(2, 1, 1, 6, 16)
    scores = []
    for shift in (0, 17):
        turned = apply_mrope(query, key, *rotary(POSITIONS + shift))
        scores.append(turned[0] @ turned[1].transpose(-1, -2))
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-5)


def test_bf16_states_keep_their_dtype() -> None:
    rotary = MRotaryEmbedding(16, (2, 3, 3))
    query = torch.randn(1, 2, 6, 16)
    exact, _ = apply_mrope(query, query, *rotary(POSITIONS))
    half, _ = apply_mrope(query.bfloat16(), query.bfloat16(), *rotary(POSITIONS))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=2e-2)


def test_a_copy_is_whole_and_the_state_dict_empty() -> None:
    rotary = MRotaryEmbedding(16, (2, 3, 3))
    assert rotary.state_dict() == {}
    assert torch.equal(copy.deepcopy(rotary)(POSITIONS)[1], rotary(POSITIONS)[1])


def test_frequencies_of_ones_own_survive_a_cast() -> None:
    mine = torch.tensor([1.0, 0.5, 0.3333333, 0.1])
    rotary = MRotaryEmbedding(8, (2, 1, 1), inv_freq=mine, attention_scaling=1.5).bfloat16()
    assert torch.equal(rotary.inv_freq, mine)
    assert rotary(POSITIONS * 0)[0].unique().tolist() == [1.5]


def test_the_text_row_is_not_an_axis() -> None:
    rotary = MRotaryEmbedding(16, (2, 3, 3))
    with_text = torch.cat([torch.full((1, 1, 6), 99), POSITIONS])
    assert torch.equal(rotary(with_text)[0], rotary(POSITIONS)[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MRotaryEmbedding(16, (2, 3, 4)), "hold 9 pairs, 18 dimensions, but 16 of a"),
        (lambda: MRotaryEmbedding(16, (2, 3, 3), rotary_dim=8), "but 8 of a head's 16"),
        (lambda: axis_of_pairs("interleaved", (2, 3, 3)), "axis 2 has 3 pairs, and its place 8"),
        (lambda: axis_of_pairs("height_width_time", (2, 3, 3)), "must be equal"),
        (lambda: axis_of_pairs("sectioned", (8,)), "at least two axes"),
        (
            lambda: MRotaryEmbedding(8, (2, 1, 1), inv_freq=torch.ones(3)),
            r"shape \(3,\) for 4 pairs",
        ),
        (
            lambda: MRotaryEmbedding(8, (2, 1, 1))(torch.zeros(1, 5)),
            r"shape \(1, 5\): \(3, batch, seq\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        make()


def test_a_scaled_rope_asks_for_its_frequencies() -> None:
    from transformers import Qwen2VLConfig

    config = Qwen2VLConfig()
    config.text_config.rope_parameters = {
        "rope_type": "yarn",
        "rope_theta": 1e6,
        "factor": 4.0,
        "mrope_section": [16, 24, 24],
    }
    with pytest.raises(ModelError, match="rope_type is 'yarn'"):
        MRotaryEmbedding.from_config(config)
    given = MRotaryEmbedding.from_config(config, inv_freq=torch.ones(64), attention_scaling=1.1)
    assert given.attention_scaling == 1.1
