"""Parts of towers, stages and explicit names, against the modules of a model."""

from __future__ import annotations

import pytest

from sightline.config import TrainingConfig, TuningConfig
from sightline.errors import PlanError
from sightline.families import TRAINABLE_FAMILIES
from sightline.tuning import apply_plan, enter_stage, named_parameters, resolve_plan
from sightline.tuning.selection import parse_blocks


def _modes(plan) -> dict[str, str]:
    return {module.name: module.mode for module in plan.modules}


def _names(plan, mode: str) -> set[str]:
    return {name for name, own in _modes(plan).items() if own == mode}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", {3}),
        ("0-2", {0, 1, 2}),
        ("5-", {5, 6, 7}),
        ("first 2", {0, 1}),
        ("last 3", {5, 6, 7}),
        ("last 50%", {4, 5, 6, 7}),
        ("first 1%", {0}),
        ("0, 2-3, last 1", {0, 2, 3, 7}),
        ("last 100", set(range(8))),
        ("9-12", set()),
        ("6-20", {6, 7}),
    ],
)
def test_ranges_of_blocks(text: str, expected: set[int]) -> None:
    assert parse_blocks(text, 8) == expected


def test_blocks_and_kinds_train_as_their_part_says(meta_model, resolved) -> None:
    model = meta_model("qwen2_5_vl")
    plan = resolved(
        model,
        "qwen2_5_vl",
        language={
            "mode": "lora",
            "rank": 4,
            "parts": [
                {"blocks": "0", "mode": "freeze"},
                {"kind": "mlp", "rank": 8, "learning_rate": 2e-5},
                {"blocks": "last 1", "kind": "attention", "mode": "full", "weight_decay": 0.1},
            ],
        },
    )
    by_name = plan.by_name()
    layers = "model.language_model.layers"
    assert by_name[f"{layers}.0.self_attn.q_proj"].mode == "freeze"
    assert by_name[f"{layers}.0.mlp.up_proj"].mode == "freeze"
    middle = by_name[f"{layers}.1.self_attn.q_proj"]
    assert (middle.mode, middle.rank, middle.learning_rates) == ("lora", 4, (1e-4,))
    mlp = by_name[f"{layers}.2.mlp.down_proj"]
    assert (mlp.mode, mlp.rank, mlp.alpha, mlp.learning_rates) == ("lora", 8, 32, (2e-5,))
    last = by_name[f"{layers}.2.self_attn.q_proj"]
    assert (last.mode, last.rank, last.weight_decay) == ("full", 0, 0.1)
    # Norms of a tower under LoRA are no linear layers.
    assert by_name[f"{layers}.1.input_layernorm"].mode == "freeze"
    assert plan.full_modules == (f"{layers}.2.self_attn",)
    ranks = {
        item.name: item.parameter.shape[0]
        for item in named_parameters(apply_plan(model, plan))
        if item.factor == "A"
    }
    assert ranks[f"{layers}.1.self_attn.q_proj.weight"] == 4
    assert ranks[f"{layers}.1.mlp.up_proj.weight"] == 8
    assert not any(".layers.0." in name for name in ranks)


def test_dropout_is_set_layer_by_layer(meta_model, resolved) -> None:
    model = meta_model("qwen2_vl")
    parts = [{"kind": "mlp", "dropout": 0.25}]
    plan = resolved(model, "qwen2_vl", language={"mode": "lora", "parts": parts})
    rates = {
        name.split(".layers.1.")[1]: getattr(module, "p", 0.0)
        for name, module in apply_plan(model, plan).named_modules()
        if name.endswith("lora_dropout.default") and ".layers.1." in name
    }
    assert rates["mlp.up_proj.lora_dropout.default"] == 0.25
    assert rates["self_attn.q_proj.lora_dropout.default"] == 0.0


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (
            {"language": {"mode": "lora", "parts": [{"blocks": "40-47", "mode": "freeze"}]}},
            r"parts\[0\]: blocks 40-47 matches nothing.\nThis tower has blocks 0 to 2",
        ),
        (
            {"language": {"mode": "lora", "parts": [{"kind": "deepstack", "mode": "full"}]}},
            "kind deepstack matches nothing.*\nThis tower has blocks 0 to 2, and kinds attention",
        ),
        (
            {"vision": {"mode": "full", "parts": [{"kind": "norm", "mode": "lora"}]}},
            "lora adapts linear layers, and kind norm has none",
        ),
        (
            {"language": "lora", "vision": {"mode": "freeze", "rank": 8}},
            "tuning.vision.rank is 8, but nothing there is set to lora",
        ),
        (
            {"language": "lora", "vision": {"mode": "freeze", "learning_rate": 1e-6}},
            "tuning.vision.learning_rate is 1e-06, but nothing there trains in any stage",
        ),
        (
            {
                "language": {
                    "mode": "full",
                    "parts": [{"kind": "mlp", "mode": "freeze", "weight_decay": 0.1}],
                }
            },
            r"tuning.language.parts\[0\].weight_decay is 0.1, but nothing there trains",
        ),
    ],
)
def test_a_plan_that_cannot_do_what_it_says(meta_model, resolved, tuning, message) -> None:
    with pytest.raises(PlanError, match=message):
        resolved(meta_model("qwen2_5_vl"), "qwen2_5_vl", **tuning)


def test_a_part_that_leaves_nothing_is_refused(meta_model, resolved) -> None:
    parts = [{"blocks": "0-", "mode": "freeze"}, {"kind": "norm", "mode": "freeze"}]
    with pytest.raises(PlanError, match="the plan trains nothing"):
        resolved(meta_model("qwen2_vl"), "qwen2_vl", language={"mode": "full", "parts": parts})


def test_a_name_hits_only_what_its_tower_lets_train(meta_model, resolved) -> None:
    model = meta_model("qwen2_5_vl")
    lora = {"target_modules": ["gate_proj", "q_proj"]}
    plan = resolved(model, "qwen2_5_vl", language="lora", lora=lora)
    assert {name.rpartition(".")[2] for name in plan.lora_modules} == {"gate_proj", "q_proj"}
    assert all(".layers." in name for name in plan.lora_modules)
    gate, query = plan.targets
    assert (gate.hits, gate.left_out) == ({"language": 3}, {"vision": 2})
    assert (query.hits, query.left_out) == ({"language": 3}, {})


def test_a_name_for_lora_does_not_widen_what_trains_in_full(meta_model, resolved) -> None:
    lora = {"target_modules": ["mlp.0", "q_proj"], "modules_to_save": ["ln_q"]}
    with pytest.raises(PlanError, match=r"'mlp\.0' hits nothing that is set to lora; it hits 1 in"):
        resolved(
            meta_model("qwen2_5_vl"), "qwen2_5_vl", language="lora", projector="full", lora=lora
        )
    lora = {"target_modules": r".*(mlp\.0|q_proj)", "modules_to_save": ["ln_q"]}
    plan = resolved(
        meta_model("qwen2_5_vl"), "qwen2_5_vl", language="lora", projector="full", lora=lora
    )
    assert _names(plan, "full") == {"model.visual.merger.ln_q"}
    assert plan.targets[0].left_out == {"projector": 1}


def test_names_are_read_as_peft_reads_them(meta_model, resolved) -> None:
    model = meta_model("qwen3_vl")
    lora = {"target_modules": ["linear_fc1"]}
    plan = resolved(model, "qwen3_vl", vision="lora", projector="lora", lora=lora)
    (target,) = plan.targets
    # The bare name hits the blocks, the merger and the deepstack merger alike.
    assert target.hits == {"vision": 2, "projector": 2}
    lora = {"target_modules": r".*layers\.[12]\.self_attn\.(q|v)_proj"}
    plan = resolved(model, "qwen3_vl", language="lora", lora=lora)
    assert len(plan.lora_modules) == 4
    lora = {"target_modules": "all-linear"}
    assert (
        resolved(model, "qwen3_vl", language="lora", lora=lora).lora_modules
        == resolved(model, "qwen3_vl", language="lora").lora_modules
    )


def test_the_convolution_of_the_patch_embedding_can_be_named(meta_model, resolved) -> None:
    plan = resolved(
        meta_model("qwen2_5_vl"), "qwen2_5_vl", vision="lora", lora={"target_modules": ["proj"]}
    )
    assert "model.visual.patch_embed.proj" in plan.lora_modules
    plain = resolved(meta_model("qwen2_5_vl"), "qwen2_5_vl", vision="lora")
    assert "model.visual.patch_embed.proj" not in plain.lora_modules


def test_the_merger_alone_misses_the_deepstack_mergers(meta_model, resolved) -> None:
    plan = resolved(
        meta_model("qwen3_vl"),
        "qwen3_vl",
        projector="full",
        lora={"modules_to_save": ["merger"]},
    )
    assert plan.full_modules == ("model.visual.merger",)
    (target,) = plan.targets
    assert (target.key, target.hits, target.left_out) == ("modules_to_save", {"projector": 3}, {})
    everything = resolved(meta_model("qwen3_vl"), "qwen3_vl", projector="full")
    assert "model.visual.deepstack_merger_list.0" in everything.full_modules


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (
            {"vision": "full", "language": "lora", "lora": {"target_modules": ["qkv"]}},
            "'qkv' hits nothing that is set to lora; it hits 2 in vision",
        ),
        (
            {"language": "lora", "lora": {"target_modules": ["q_prj"]}},
            "'q_prj' hits nothing that is set to lora.\nSee the names",
        ),
        (
            {"projector": "lora", "lora": {"target_modules": ["merger"]}},
            "merger is no layer but a block that holds",
        ),
        (
            {"language": "lora", "projector": "lora", "lora": {"target_modules": ["q_proj"]}},
            "tuning.projector is lora, but tuning.lora.target_modules hits nothing in it",
        ),
        (
            {"projector": "full", "vision": "full", "lora": {"modules_to_save": ["merger"]}},
            "tuning.vision is full, but tuning.lora.modules_to_save hits nothing in it",
        ),
        (
            {"language": "lora", "lora": {"modules_to_save": ["lm_head"]}},
            "'lm_head' hits nothing that is set to full; it hits 1 in head",
        ),
    ],
)
def test_a_name_that_picks_nothing_is_refused(meta_model, resolved, tuning, message) -> None:
    with pytest.raises(PlanError, match=message):
        resolved(meta_model("qwen2_5_vl"), "qwen2_5_vl", **tuning)


STAGES = [
    {"name": "align", "until": "20%", "language": "freeze", "vision": "freeze"},
    {
        "until": 50,
        "vision": "freeze",
        "language": {"parts": [{"blocks": "first 2", "mode": "freeze"}]},
    },
    {"learning_rate_factor": 0.5},
]


def _staged(model, family: str, **tuning):
    given = {"language": "lora", "projector": "full", "vision": "full", "stages": STAGES}
    config = TuningConfig.model_validate(given | tuning)
    training = TrainingConfig.model_validate({"learning_rate": 1e-4})
    return resolve_plan(model, TRAINABLE_FAMILIES[family], config, training)


def test_each_stage_trains_its_own(meta_model) -> None:
    plan = _staged(meta_model("qwen2_5_vl"), "qwen2_5_vl")
    assert [plan.towers_in(stage) for stage in range(3)] == [
        ("projector",),
        ("projector", "language"),
        ("vision", "projector", "language"),
    ]
    by_name = plan.by_name()
    layers = "model.language_model.layers"
    assert by_name["model.visual.merger.mlp.0"].learning_rates == (1e-4, 1e-4, 5e-5)
    assert by_name[f"{layers}.0.self_attn.q_proj"].learning_rates == (None, None, 5e-5)
    assert by_name[f"{layers}.2.self_attn.q_proj"].learning_rates == (None, 1e-4, 5e-5)
    assert [(stage.name, stage.share, stage.step) for stage in plan.stages] == [
        ("align", 0.2, None),
        ("stage 2", None, 50),
        ("stage 3", None, None),
    ]


def test_entering_a_stage_lets_train_what_it_names(meta_model) -> None:
    model = meta_model("qwen3_vl")
    plan = _staged(model, "qwen3_vl")
    planned = apply_plan(model, plan)
    by_name = plan.by_name()
    for stage in (0, 2, 1, 0):
        enter_stage(planned, plan, stage)
        for item in named_parameters(planned):
            owner = by_name[
                item.name.removesuffix(".weight") if item.factor else item.name.rpartition(".")[0]
            ]
            wanted = owner.trains_in(stage) and (
                bool(item.factor) or (owner.mode == "full" and not item.is_copy)
            )
            assert item.parameter.requires_grad == wanted, (stage, item.name)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [{"until": "50%"}, {"language": "full"}],
            "is lora in stage 1 and full in stage 2",
        ),
        (
            [{"until": "50%"}, {"language": {"rank": 4}}],
            "rank is .* in different stages",
        ),
        (
            [
                {"until": "50%"},
                {"language": {"parts": [{"blocks": "8-", "mode": "freeze"}]}},
            ],
            r"tuning.stages\[1\].language.parts\[0\]: blocks 8- matches nothing",
        ),
    ],
)
def test_stages_that_contradict_each_other_are_refused(meta_model, stages, message) -> None:
    with pytest.raises(PlanError, match=message):
        _staged(meta_model("qwen2_vl"), "qwen2_vl", stages=stages)


def test_a_tied_weight_has_one_rate_and_one_time(meta_model) -> None:
    model = meta_model("qwen2_vl")
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    both = {"head": "full", "embeddings": "full", "stages": []}
    assert _staged(model, "qwen2_vl", **both).is_tied
    with pytest.raises(PlanError, match="one weight has one rate"):
        _staged(model, "qwen2_vl", **both | {"head": {"mode": "full", "learning_rate": 1e-5}})
