"""Section ``tuning``: words and mappings, parts, and stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from sightline.config import Part, RunConfig, TowerSettings, TuningConfig, load_config
from sightline.errors import ConfigError

HEAD = {"model": "m", "output": "o", "data": {"train": "a"}}


def _tuning(**keys: object) -> TuningConfig:
    return TuningConfig.model_validate(keys)


def test_a_word_and_a_mapping_say_the_same() -> None:
    assert _tuning(vision="lora") == _tuning(vision={"mode": "lora"})
    assert _tuning(vision={"mode": "lora"}).model_dump()["vision"] == "lora"
    rank = {"mode": "lora", "rank": 4}
    assert _tuning(vision=rank).model_dump()["vision"] == rank


def test_a_mapping_without_mode_keeps_that_of_its_tower() -> None:
    config = _tuning(
        language={"rank": 4}, projector={"learning_rate": 1e-5}, vision={"weight_decay": 0}
    )
    assert (config.language.mode, config.projector.mode, config.vision.mode) == (
        "lora",
        "full",
        "freeze",
    )


@pytest.mark.parametrize("blocks", [3, "3", "0-11", "24-", "first 8", "last 50%", "0, 3-5, last 1"])
def test_ranges_that_can_be_written(blocks: object) -> None:
    assert Part.model_validate({"blocks": blocks}).blocks == blocks


@pytest.mark.parametrize("blocks", ["x", "-3", "3-x", "last", "last 0", "first 1.5%", "", "1,,2"])
def test_ranges_that_mean_nothing_are_refused(blocks: str) -> None:
    with pytest.raises(ValidationError, match="names no blocks; write 3"):
        Part.model_validate({"blocks": blocks})


def test_a_part_that_selects_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="names neither blocks nor kind"):
        TowerSettings.model_validate({"parts": [{"mode": "full"}]})


def test_a_stage_inherits_the_numbers_that_it_leaves_out() -> None:
    parts = [{"blocks": 0, "mode": "freeze"}]
    config = _tuning(
        language={"mode": "lora", "rank": 4, "learning_rate": 1e-5, "parts": parts},
        stages=[{"until": 10}, {"until": 20, "language": "freeze"}, {"language": {"rank": 4}}],
    )
    first, second, third = (config.in_stage("language", stage) for stage in config.stages)
    assert first == config.language == third
    # A stage that says how a tower trains says all of it.
    assert (second.mode, second.rank, second.parts) == ("freeze", 4, [])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{}, {}], "tuning.stages.0.until: only the last stage ends with the run"),
        ([{"until": 5}], "tuning.stages.0.until: 5 is given for the last stage"),
        ([{"until": "50"}, {}], "'50' is given; write a step, a share such as"),
        ([{"until": "0%"}, {}], "'0%' is given"),
        ([{"until": "100%"}, {}], "'100%' is given"),
        ([{"until": 0}, {}], "0 is given; a step is 1 or more"),
        ([{"until": "60%"}, {"until": "40%"}, {}], "tuning.stages.1.until: '40%' is given, but"),
        ([{"until": 20}, {"until": "40%"}, {"until": 20}, {}], "tuning.stages.2.until: 20 is"),
        (
            [{"until": 5, "language": "freeze", "projector": "freeze"}, {}],
            "tuning.stages.0: every tower is frozen in this stage",
        ),
        ([{"until": "plateau"}, {}], "plateau looks at the validation loss, but data.eval"),
    ],
)
def test_stages_that_cannot_follow_each_other(
    stages: list[dict[str, object]], message: str, config_file: Callable[[str], Path]
) -> None:
    import yaml

    path = config_file(yaml.safe_dump({**HEAD, "tuning": {"stages": stages}}))
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert message.replace("tuning.stages.", "stages.") in str(refused.value).replace(
        "tuning.stages[", "stages."
    ).replace("]", "")


def test_a_plateau_is_seen_where_there_is_validation_data() -> None:
    config = RunConfig.model_validate(
        {
            **HEAD,
            "data": {"train": "a", "eval": "b"},
            "tuning": {"stages": [{"until": "plateau"}, {}]},
        }
    )
    assert config.tuning.stages[0].until == "plateau"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tuning": {"quantization": "nf4"}}, "merged is true, but tuning.quantization is nf4"),
        (
            {"tuning": {"language": "full"}, "export": {"merged": False}},
            "without LoRA there is no adapter to write instead",
        ),
    ],
)
def test_exports_that_cannot_be(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate({**HEAD, **keys})


def test_a_quantised_base_exports_its_adapter() -> None:
    keys = {"tuning": {"quantization": "nf4"}, "export": {"merged": False}}
    assert RunConfig.model_validate({**HEAD, **keys}).tuning.quantization == "nf4"


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(ValidationError, match="no regular expression"):
        _tuning(lora={"target_modules": "(q_proj"})
