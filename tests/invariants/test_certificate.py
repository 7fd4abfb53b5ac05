"""A certificate holds for a sound run, and every fault that is planted makes its check fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sightline.checks import answers, logits, verify
from sightline.checks.context import VerifyContext, flat_positions
from sightline.checks.finding import Finding, verdict
from sightline.checks.verify import verify_run
from sightline.cli.main import app
from sightline.config import RunConfig, load_config
from sightline.data import IGNORE_INDEX
from sightline.errors import SightlineError
from sightline.evaluation import Answer, load_probe
from sightline.model import load_weights, open_checkpoint
from sightline.records import RunDirectory, read_json, write_json
from sightline.training import SilentObserver, train

NUM_STEPS = 30
CHECKS = [
    "preprocessing.settings",
    "tokens.same_ids",
    "tokens.labels",
    "tokens.media_size",
    "tokens.media_pixels",
    "preprocessing.pixels",
    "positions.same_as_training",
    "positions.plain_transformers",
    "positions.conformance",
    "weights.bit_identical",
    "weights.frozen",
    "plan.proof",
    "plan.gradients",
    "plan.movement",
    "packing.alone",
    "loss.exact",
    "merge.rounding",
    "logits.merged",
    "logits.cache",
    "logits.adapter",
    "answers.alone",
    "answers.batched",
    "answers.annotated",
    "serving.stop_tokens",
    "serving.adapter",
]
# Where every answer has to be known by heart, the checks on answers begin with these.
BEFORE_ANSWERS = CHECKS.index("answers.alone")
MEMORISED = [
    *CHECKS[:BEFORE_ANSWERS],
    "answers.trained",
    "answers.memorised",
    *CHECKS[BEFORE_ANSWERS:],
]
# Where tokens differ, the checks behind them would compare one sequence with another.
WITHOUT_EQUAL_TOKENS = CHECKS[:3]
PICTURE, VIDEO = 0, 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder, shapes_folder: Path) -> Path:
    """A short run on one picture and one video; both are probes."""
    folder = tmp_path_factory.mktemp("certificate")
    rows = [json.loads(line) for line in (shapes_folder / "train.jsonl").open(encoding="utf-8")]
    picture = next(row for row in rows if isinstance(row.get("image"), str))
    video = next(row for row in rows if "video" in row)
    data = folder / "two.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in (picture, video)), encoding="utf-8")
    config = RunConfig.model_validate(
        {
            "model": str(tiny_folder("qwen2_5_vl")),
            "data": {"train": [{"path": data, "media_root": shapes_folder}]},
            "training": {
                "max_steps": NUM_STEPS,
                "gradient_accumulation": 1,
                "learning_rate": 3e-3,
                "precision": "fp32",
                "gradient_checkpointing": False,
            },
            "verify": {"samples": 2},
            "output": str(folder / "run"),
        }
    )
    return train(config, SilentObserver()).run.path


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A copy of the trained run, to plant a fault in."""

    run: RunDirectory

    def verify(self) -> dict[str, Finding]:
        """Findings by their ids, in their order."""
        told: list[Finding] = []
        findings = verify_run(self.run.path, told.append)
        assert told == findings
        return {finding.id: finding for finding in findings}

    def edit_json(self, path: Path, edit: Callable[[Any], None]) -> None:
        """Change a JSON file of the copy in place."""
        record = read_json(path)
        edit(record)
        write_json(path, record)

    def edit_tensors(self, path: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
        """Change a Safetensors file of the copy in place."""
        tensors = load_file(str(path))
        edit(tensors)
        save_file(tensors, str(path), metadata={"format": "pt"})


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Copy:
    """A copy of the run without what an earlier verification wrote."""
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    return Copy(run=RunDirectory.open(tmp_path / "run"))


def _failing(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.holds is False}


def _expect(
    copy: Copy, fails: set[str], *, may_fail: set[str] = frozenset(), checks: list[str] = CHECKS
) -> dict[str, Finding]:
    """The named checks fail, others than those that may do not, and all are reported."""
    findings = copy.verify()
    assert list(findings) == checks
    failing = _failing(findings)
    assert fails <= failing <= fails | may_fail, failing
    for name in failing:
        assert findings[name].advice, name
        assert findings[name].detail, name
    certificate = read_json(copy.run.certificate)
    assert certificate["verdict"] == "fails"
    assert [check["id"] for check in certificate["checks"]] == checks
    assert copy.run.read_state()["state"] == "failed"
    return findings


# Nothing planted.


def test_an_untouched_copy_holds(copy: Copy) -> None:
    findings = copy.verify()
    assert list(findings) == CHECKS
    assert _failing(findings) == set()
    assert verdict(list(findings.values())) == "holds"
    assert copy.run.read_state()["state"] == "verified"

    certificate = read_json(copy.run.certificate)
    assert certificate["verdict"] == "holds"
    assert certificate["family"] == "qwen2_5_vl"
    assert certificate["dtype"] == "float32"
    assert certificate["num_samples"] == 2
    assert certificate["checks"] == [finding.record() for finding in findings.values()]

    predictions = read_json(copy.run.predictions)
    assert [row["index"] for row in predictions["samples"]] == [PICTURE, VIDEO]
    assert [row["media"][0]["kind"] for row in predictions["samples"]] == ["image", "video"]
    assert predictions["samples"][PICTURE]["annotated_boxes"]
    assert predictions["control"] is None


def test_verifying_twice_says_the_same(copy: Copy) -> None:
    first, second = copy.verify(), copy.verify()
    assert [finding.record() for finding in first.values()] == [
        finding.record() for finding in second.values()
    ]


def test_the_figures_are_of_something(copy: Copy) -> None:
    """A check that looked at nothing would hold too."""
    findings = copy.verify()
    assert findings["tokens.same_ids"].figures["num_samples"] == 2
    assert findings["weights.bit_identical"].figures["num_tensors"] > 50
    assert findings["weights.frozen"].figures["num_tensors"] > 10
    assert findings["plan.gradients"].figures["num_trainable_tensors"] > 10
    assert findings["plan.proof"].figures["num_trainable_tensors"] > 10
    assert findings["plan.proof"].figures["num_frozen_tensors"] > 10
    assert findings["plan.movement"].figures["num_tensors"] > 10
    assert min(findings["plan.movement"].figures["change"].values()) > 0
    for name in ("logits.merged", "logits.cache", "logits.adapter"):
        assert len(findings[name].figures["per_sample"]) == 2
    assert findings["answers.alone"].figures["num_samples"] == 2
    assert findings["merge.rounding"].figures["num_layers"] > 10
    assert findings["merge.rounding"].figures["lost_share"] < 1e-4
    assert findings["merge.rounding"].figures["still_share"] < 0.5


# Pictures that transformers opens otherwise.


def _hide_half(path: Path) -> None:
    """Save the picture with an alpha channel that shows all of it, or none of its left half."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    image.putalpha(255)
    image.paste((255, 0, 0, 0), (0, 0, image.width // 2, image.height))
    image.save(path)


def test_a_run_on_transparent_pictures_holds_and_says_so(
    tmp_path: Path, tiny_folder, shapes_folder: Path
) -> None:
    shutil.copytree(shapes_folder, tmp_path / "data")
    rows = [json.loads(line) for line in (tmp_path / "data/train.jsonl").open(encoding="utf-8")]
    two = [row for row in rows if isinstance(row.get("image"), str)][:2]
    data = tmp_path / "data/two.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in two), encoding="utf-8")
    clear = tmp_path / "data" / two[0]["image"]
    _hide_half(clear)
    config = RunConfig.model_validate(
        {
            "model": str(tiny_folder("qwen2_5_vl")),
            "data": {"train": [str(data)]},
            "training": {
                "max_steps": 6,
                "gradient_accumulation": 1,
                "learning_rate": 3e-3,
                "precision": "fp32",
                "gradient_checkpointing": False,
            },
            "verify": {"samples": 2},
            "output": str(tmp_path / "run"),
        }
    )
    copy = Copy(run=train(config, SilentObserver()).run)
    findings = copy.verify()
    assert _failing(findings) == set()
    told = findings["tokens.media_pixels"]
    assert told.measured.startswith("1 of 2 pictures are read otherwise")
    assert str(clear) in told.detail
    assert "sightline.data.images.load_image" in told.advice

    # Without it the comparison is between two pictures: that it would fail is what it is for.
    context = verify._load(copy.run)
    assert context.misread == {str(clear)}
    context.misread = frozenset()
    assert logits.merged_equals_trained(context).holds is False


# Weights.


def test_one_changed_weight_of_a_frozen_tensor(copy: Copy) -> None:
    frozen = set(read_json(copy.run.probe)["frozen_fingerprints"])

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if _as_loaded(name) in frozen)
        tensors[name].view(-1)[0] += 1e-3

    copy.edit_tensors(copy.run.merged / "model.safetensors", nudge)
    findings = _expect(
        copy,
        {"weights.bit_identical", "weights.frozen"},
        may_fail={"logits.merged", "logits.adapter", "answers.alone"},
    )
    assert findings["weights.bit_identical"].figures["num_differing"] == 1
    assert findings["weights.frozen"].figures["num_differing"] == 1


def _as_loaded(name: str) -> str:
    """A name in the file as the loaded model calls it."""
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(
        ("model.visual.", "model.language_model.")
    ):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def test_an_adapter_that_was_never_merged(copy: Copy) -> None:
    base = Path(read_json(copy.run.probe)["base"])
    shutil.copy(base / "model.safetensors", copy.run.merged / "model.safetensors")
    _expect(
        copy,
        {
            "weights.bit_identical",
            "merge.rounding",
            "logits.merged",
            "logits.adapter",
            "answers.alone",
        },
        may_fail={"answers.annotated"},
    )


def test_packing_that_was_not_proven(copy: Copy) -> None:
    """Rows of two samples each: their logits together and alone."""
    proof = {"samples": ["a:1", "a:2"], "num_compared": 16, "tolerance": 1e-4}

    def tell(share: float) -> None:
        proof["largest_share"] = share
        copy.edit_json(copy.run.state_file, lambda record: record.update(packing=proof))

    tell(1e-6)
    assert copy.verify()["packing.alone"].holds is True
    tell(0.5)
    _expect(copy, {"packing.alone"})


def test_a_loss_that_was_a_mean_of_means(copy: Copy) -> None:
    def damage(record: dict[str, Any]) -> None:
        record["loss"]["loss"] *= 1.01

    assert copy.verify()["loss.exact"].figures["num_samples"] > 1
    copy.edit_json(copy.run.state_file, damage)
    _expect(copy, {"loss.exact"})


def test_a_trainable_tensor_without_a_gradient(copy: Copy) -> None:
    copy.edit_json(copy.run.probe, lambda record: record["without_gradient"].append("a.weight"))
    findings = _expect(copy, {"plan.gradients"})
    assert findings["plan.gradients"].detail == "a.weight"


def test_a_proof_with_a_fault(copy: Copy) -> None:
    fault = {"name": "a.weight", "tower": "vision", "what": "no gradient"}

    def damage(record: dict) -> None:
        record["before"]["faults"].append(fault)
        record["before"]["cause"] = "The batch has no picture."

    copy.edit_json(copy.run.proof, damage)
    finding = _expect(copy, {"plan.proof"})["plan.proof"]
    assert (finding.detail, finding.advice) == ("a.weight", "The batch has no picture.")


def test_a_tensor_that_did_not_move(copy: Copy) -> None:
    copy.edit_json(copy.run.proof, lambda record: record["end"]["unmoved"].append("a.weight"))
    assert _expect(copy, {"plan.movement"})["plan.movement"].detail == "a.weight"


def test_a_run_without_its_proof_is_not_said_to_be_proven(copy: Copy) -> None:
    copy.run.proof.unlink()
    findings = copy.verify()
    assert findings["plan.proof"].holds is None
    assert findings["plan.movement"].holds is None


def test_an_adapter_of_another_scale(copy: Copy) -> None:
    def scale(tensors: dict[str, torch.Tensor]) -> None:
        factors = [name for name in tensors if "lora_B" in name]
        assert factors
        for name in factors:
            tensors[name] *= 1.5

    copy.edit_tensors(copy.run.adapter / "adapter_model.safetensors", scale)
    findings = _expect(copy, {"logits.adapter", "merge.rounding"})
    # What was merged is two thirds of what the adapter says now.
    assert findings["merge.rounding"].figures["lost_share"] == pytest.approx(1 / 3, rel=1e-3)


def test_an_adapter_configuration_of_another_scale(copy: Copy) -> None:
    def double(record: dict[str, Any]) -> None:
        record["lora_alpha"] *= 2

    copy.edit_json(copy.run.adapter / "adapter_config.json", double)
    findings = _expect(copy, {"logits.adapter", "merge.rounding"})
    assert findings["merge.rounding"].figures["lost_share"] == pytest.approx(1 / 2, rel=1e-3)


# Tokens.


def test_another_chat_template(copy: Copy) -> None:
    template = copy.run.merged / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    changed = text.replace("You are a helpful assistant.", "You are a terse assistant.")
    assert changed != text
    template.write_text(changed, encoding="utf-8")
    findings = _expect(copy, {"tokens.same_ids"}, checks=WITHOUT_EQUAL_TOKENS)
    assert findings["tokens.same_ids"].figures["num_differing"] == 2


def test_another_pixel_budget(copy: Copy) -> None:
    def halve(record: dict[str, Any]) -> None:
        record["image_processor"]["size"]["longest_edge"] = 112 * 168 // 2

    copy.edit_json(copy.run.merged / "processor_config.json", halve)
    faults = {"preprocessing.settings", "tokens.same_ids"}
    findings = _expect(copy, faults, checks=WITHOUT_EQUAL_TOKENS)
    assert findings["tokens.same_ids"].figures["num_differing"] == 1
    assert findings["preprocessing.settings"].detail == (
        "image_budget.max_pixels: trained with 12845056, saved 9408"
    )


def test_another_frame_rate(copy: Copy) -> None:
    def double(record: dict[str, Any]) -> None:
        record["video_processor"]["fps"] *= 2

    copy.edit_json(copy.run.merged / "processor_config.json", double)
    faults = {"preprocessing.settings", "tokens.same_ids"}
    findings = _expect(copy, faults, checks=WITHOUT_EQUAL_TOKENS)
    assert findings["preprocessing.settings"].detail == "sampling.fps: trained with 2.0, saved 4.0"


def test_another_filter(copy: Copy) -> None:
    """The pictures are not resized, so that nothing but the setting differs."""

    def blur(record: dict[str, Any]) -> None:
        record["image_processor"]["resample"] = int(Image.Resampling.BILINEAR)

    copy.edit_json(copy.run.merged / "processor_config.json", blur)
    findings = _expect(copy, {"preprocessing.settings"})
    assert findings["preprocessing.settings"].detail == (
        "recipe.image.resample: trained with bicubic, saved bilinear"
    )


def test_one_grey_level_of_a_picture(copy: Copy, tmp_path: Path) -> None:
    """Too little for the logits' tolerance; the picture is another one all the same."""

    def touch(record: dict[str, Any]) -> None:
        [part] = [
            part
            for turn in record["samples"][PICTURE]["messages"]
            for part in turn["content"]
            if part["type"] == "image"
        ]
        with Image.open(part["image"]) as opened:
            picture = opened.convert("RGB")
        red, green, blue = picture.getpixel((40, 30))  # type: ignore[misc]
        picture.putpixel((40, 30), (red, green, blue ^ 1))
        picture.save(tmp_path / "touched.png")
        part["image"] = str(tmp_path / "touched.png")

    copy.edit_json(copy.run.probe, touch)
    findings = _expect(copy, {"preprocessing.pixels"}, may_fail={"logits.merged"})
    assert findings["preprocessing.pixels"].detail == "sample 0: the same grids, other grey levels"
    assert findings["preprocessing.pixels"].figures == {"num_samples": 2, "num_differing": 1}


def test_another_normalisation_of_pixels(copy: Copy) -> None:
    """Tokens and positions are the same; only what the model sees is not."""

    def recentre(record: dict[str, Any]) -> None:
        record["image_processor"]["image_mean"] = [0.0, 0.0, 0.0]

    copy.edit_json(copy.run.merged / "processor_config.json", recentre)
    faults = {"preprocessing.settings", "preprocessing.pixels", "logits.merged"}
    _expect(copy, faults, may_fail={"answers.alone", "answers.annotated"})


def _labelled(copy: Copy, token: str | None) -> None:
    """Put a label on a token of the picture's prompt: on that one, or on a word."""
    vocabulary = {
        row["content"]: row["id"]
        for row in read_json(copy.run.merged / "tokenizer.json")["added_tokens"]
    }

    def label(tensors: dict[str, torch.Tensor]) -> None:
        ids, labels = tensors[f"{PICTURE}.input_ids"], tensors[f"{PICTURE}.labels"]
        if token is not None:
            place = int((ids == vocabulary[token]).nonzero()[0])
        else:
            # The last word of the question: before <|im_end|> and the turn that answers.
            start = int((labels != IGNORE_INDEX).nonzero()[0])
            ends = (ids[:start] == vocabulary["<|im_end|>"]).nonzero()
            place = int(ends[-1]) - 1
        assert labels[place] == IGNORE_INDEX
        labels[place] = ids[place]

    copy.edit_tensors(copy.run.probe_tensors, label)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("<|image_pad|>", id="picture"),
        pytest.param("<|im_start|>", id="turn"),
        pytest.param("<|im_end|>", id="closing"),
        pytest.param(None, id="question"),
    ],
)
def test_a_label_outside_the_answer(copy: Copy, token: str | None) -> None:
    _labelled(copy, token)
    findings = _expect(copy, {"tokens.labels"})
    assert findings["tokens.labels"].figures["num_differing"] == 1


@pytest.mark.parametrize("place", [0, 3, -1])
def test_an_answer_without_one_of_its_labels(copy: Copy, place: int) -> None:
    """Its first word, one in the middle, or the token that closes it."""

    def drop(tensors: dict[str, torch.Tensor]) -> None:
        labels = tensors[f"{PICTURE}.labels"]
        labels[int((labels != IGNORE_INDEX).nonzero()[place])] = IGNORE_INDEX

    copy.edit_tensors(copy.run.probe_tensors, drop)
    _expect(copy, {"tokens.labels"})


def test_a_label_of_another_token(copy: Copy) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        labels = tensors[f"{PICTURE}.labels"]
        first, second = (labels != IGNORE_INDEX).nonzero()[:2, 0].tolist()
        labels[first] = labels[second]

    copy.edit_tensors(copy.run.probe_tensors, swap)
    _expect(copy, {"tokens.labels"})


# Positions.


def test_positions_off_by_one(copy: Copy) -> None:
    def shift(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{PICTURE}.position_ids"][2, -1] += 1

    copy.edit_tensors(copy.run.probe_tensors, shift)
    findings = _expect(copy, {"positions.same_as_training"})
    assert findings["positions.same_as_training"].figures["num_differing"] == 1


def test_another_pace_of_time(copy: Copy) -> None:
    """The video alone moves: a picture has no time."""

    def double(record: dict[str, Any]) -> None:
        record["vision_config"]["tokens_per_second"] *= 2

    copy.edit_json(copy.run.merged / "config.json", double)
    findings = _expect(
        copy,
        {"positions.same_as_training", "logits.merged"},
        may_fail={"logits.adapter", "answers.alone", "answers.annotated"},
    )
    assert findings["positions.same_as_training"].figures["num_differing"] == 1
    picture, video = findings["logits.merged"].figures["per_sample"]
    assert picture < 1e-3 < video


# Logits and answers.


@pytest.mark.parametrize("sample", [PICTURE, VIDEO])
def test_logits_that_are_no_number(copy: Copy, sample: int) -> None:
    """In any sample, and the certificate can still be written."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{sample}.logits"][0, 0] = torch.nan

    copy.edit_tensors(copy.run.probe_tensors, spoil)
    _expect(copy, {"logits.merged"})


def test_logits_just_over_the_tolerance(copy: Copy) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{VIDEO}.logits"][-1, 0] += 2e-3

    copy.edit_tensors(copy.run.probe_tensors, nudge)
    findings = _expect(copy, {"logits.merged"})
    assert findings["logits.merged"].detail.endswith("two.jsonl:2")
    assert 1e-3 < findings["logits.merged"].figures["largest_difference"] < 3e-3


def test_an_answer_of_another_model(copy: Copy) -> None:
    def swap(record: dict[str, Any]) -> None:
        sample = record["samples"][PICTURE]
        other = record["samples"][VIDEO]
        sample["answer_ids"], sample["answer_gaps"] = (
            other["answer_ids"],
            [9.0] * len(other["answer_ids"]),
        )

    before = read_json(copy.run.probe)["samples"]
    assert before[PICTURE]["answer_ids"] != before[VIDEO]["answer_ids"]
    copy.edit_json(copy.run.probe, swap)
    _expect(copy, {"answers.alone"})


def test_answers_that_must_be_memorised(copy: Copy) -> None:
    """A run that learned too little holds as a copy of itself, but not against its data."""
    findings = copy.verify()
    assert findings["answers.annotated"].figures["num_exact"] < 2
    text = copy.run.config.read_text(encoding="utf-8")
    assert "answers: consistent" in text
    copy.run.config.write_text(text.replace("answers: consistent", "answers: memorised"))
    findings = _expect(
        copy,
        {"answers.trained", "answers.memorised", "answers.annotated"},
        checks=MEMORISED,
    )
    known = findings["answers.memorised"].figures
    assert set(known["num_wrong"]) == {"without the cache", "with the cache", "through the adapter"}
    # All ways are the same model: they fail alike.
    assert 0 < min(known["num_wrong"].values()) == max(known["num_wrong"].values())
    assert known["num_wrong"]["with the cache"] < known["num_tokens"]
    assert findings["answers.trained"].figures["num_exact"] < 2


def test_an_adapter_that_knows_less_than_the_merged_model(copy: Copy) -> None:
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
def test_settings_that_do_not_stop_after_an_answer(copy: Copy, stops: Any) -> None:
    """The end of a text alone, as in base models; or nothing at all."""
    settings = copy.run.merged / "generation_config.json"
    closing, end_of_text = read_json(settings)["eos_token_id"]
    assert end_of_text == 446
    copy.edit_json(settings, lambda record: record.update(eos_token_id=stops))
    finding = _expect(copy, {"serving.stop_tokens"})["serving.stop_tokens"]
    assert closing not in finding.figures["stop_tokens"]
    assert finding.measured.endswith("answers end with <|im_end|>")
    assert finding.detail == "merged/generation_config.json: eos_token_id"


def test_what_an_engine_may_not_take_of_the_adapter(copy: Copy) -> None:
    finding = copy.verify()["serving.adapter"]
    assert finding.holds is None
    assert finding.figures["lora_layers"] == {"language": 21}
    assert finding.figures["weights_in_full"] == {"projector": 5}
    assert "5 weights of projector in full, which engines may refuse" in finding.measured
    # The merged model is what was verified: there is nothing to look out for.
    assert finding.advice == ""


# Faults of serving: the exported files are right, and what runs them is not.


@pytest.fixture
def context(copy: Copy) -> VerifyContext:
    """The exported model as a verification loads it."""
    merged = str(copy.run.merged)
    return VerifyContext(
        run=copy.run,
        config=load_config(copy.run.config),
        probe=load_probe(copy.run),
        checkpoint=open_checkpoint(merged),
        model=load_weights(merged, dtype=torch.float32),
    )


def test_decoding_that_forgets_the_grids(context: VerifyContext) -> None:
    """``generate`` with 1-D positions, as a stack does that knows no pictures."""
    assert logits.cache_equals_whole(context).holds
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


# What cannot be verified.


def _cannot(copy: Copy) -> str:
    """The one message; and no certificate of earlier says that the run holds."""
    with pytest.raises(SightlineError) as refused:
        copy.verify()
    if copy.run.certificate.exists():
        assert read_json(copy.run.certificate)["verdict"] == "fails"
    assert copy.run.read_state()["state"] != "verified"
    return str(refused.value)


def test_merged_weights_that_are_cut(copy: Copy) -> None:
    assert _failing(copy.verify()) == set()
    weights = copy.run.merged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert str(copy.run.merged) in _cannot(copy)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_is_not_there(copy: Copy, name: str) -> None:
    (copy.run.adapter / name).unlink()
    assert str(copy.run.adapter) in _cannot(copy)


def test_a_picture_that_was_moved(copy: Copy) -> None:
    def move(record: dict[str, Any]) -> None:
        record["samples"][PICTURE]["messages"][0]["content"][0]["image"] = "/moved/a.png"

    copy.edit_json(copy.run.probe, move)
    assert "/moved/a.png" in _cannot(copy)


def test_a_base_that_was_moved(copy: Copy) -> None:
    copy.edit_json(copy.run.probe, lambda record: record.update(base="/moved/base"))
    assert "/moved/base" in _cannot(copy)


def test_a_prompt_that_opens_the_answer_otherwise(copy: Copy) -> None:
    """Whole conversations tokenize as in training; what is asked for an answer does not."""
    template = copy.run.merged / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    opening = '"<|im_start|>assistant\\n"'
    assert text.count(opening) == 1
    template.write_text(text.replace(opening, '"<|im_start|>assistant\\n["'), encoding="utf-8")
    assert "two.jsonl:1: the prompt has" in _cannot(copy)


# The command.


def test_the_command_ends_with_what_was_found(copy: Copy) -> None:
    good = CliRunner().invoke(app, ["verify", str(copy.run.path)])
    assert good.exit_code == 0, good.output
    assert "verdict The exported model is the model that was trained." in good.stdout
    assert copy.run.report.is_file()

    copy.edit_tensors(
        copy.run.adapter / "adapter_model.safetensors",
        lambda tensors: [tensor.mul_(1.5) for name, tensor in tensors.items() if "lora_B" in name],
    )
    bad = CliRunner().invoke(app, ["verify", str(copy.run.path)])
    assert bad.exit_code == 1, bad.output
    assert "verdict Not proven: see the checks that fail." in bad.stdout
    assert "Base plus adapter equals the merged model (logits.adapter)\n  largest at" in bad.stdout


def test_the_command_serves_a_control(copy: Copy) -> None:
    outcome = CliRunner().invoke(app, ["verify", "--control", str(copy.run.path)])
    assert outcome.exit_code == 0, outcome.output
    control = read_json(copy.run.predictions)["control"]
    assert control["num_samples"] == len(control["samples"]) == 2


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "not a run directory; run.json is missing." in outcome.stderr
