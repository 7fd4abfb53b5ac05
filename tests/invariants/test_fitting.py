"""Whatever the conversation and the limit: what is kept fits and is whole; no loss is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data import (
    IGNORE_INDEX,
    Conversation,
    Encoder,
    ImagePart,
    Measure,
    Message,
    Origin,
    TextPart,
)
from sightline.data.conversation import BoxPart
from sightline.data.fit import FitRules, Turns, cut, fit
from sightline.geometry import image_grid_thw, resize_image
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
SIZES = ((56, 56), (112, 280), (336, 224), (448, 448), (28, 616))
POLICIES = ("shrink", "split", "trim", "drop")
WORDS = "a red box left of two birds"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, size in enumerate(SIZES):
        paths.append(folder / f"{number}.png")
        Image.new("RGB", size).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def opened(tiny_folder: Callable[[str], Path]) -> dict[str, tuple[Checkpoint, Encoder]]:
    found = {}
    for key in FAMILY_KEYS:
        checkpoint = open_checkpoint(str(tiny_folder(key)))
        found[key] = (checkpoint, make_encoder(checkpoint))
    return found


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[list[int], int, int, bool, bool]]:
    """Turns: pictures of the question, words of it, words of the answer, trained, with a box."""
    turns = draw(
        st.lists(
            st.tuples(
                st.lists(st.integers(0, len(SIZES) - 1), max_size=2),
                st.integers(1, 40),
                st.integers(1, 40),
                st.booleans(),
                st.booleans(),
            ),
            min_size=1,
            max_size=5,
        )
    )
    # One answer at least is trained, as in everything that is read.
    pictures, asked, answered, _, box = turns[-1]
    turns[-1] = (pictures, asked, answered, True, box)
    return turns


def conversation_of(turns: list, pictures: list[Path], *, system: bool) -> Conversation:
    messages: list[Message] = []
    if system:
        messages.append(Message(role="system", parts=(TextPart(text="Be short."),), field="system"))
    num_images = 0
    for images, asked, answered, is_trained, has_box in turns:
        parts = [ImagePart(path=pictures[n], field="images") for n in images]
        num_images += len(parts)
        question = (*parts, TextPart(text=" ".join([WORDS] * asked)))
        answer: tuple = (TextPart(text=" ".join([WORDS] * answered)),)
        if has_box and num_images:
            answer = (
                *answer,
                BoxPart(
                    numbers=(0.1, 0.2, 0.5, 0.9), space="unit", image=num_images - 1, field="box"
                ),
            )
        messages.append(Message(role="user", parts=question, field="user"))
        messages.append(
            Message(role="assistant", parts=answer, field="assistant", is_trained=is_trained)
        )
    origin = Origin(file=Path("made.jsonl"), line=1, index=0)
    return Conversation(messages=tuple(messages), origin=origin)


@pytest.mark.parametrize("family", FAMILY_KEYS)
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    turns=shapes(),
    system=st.booleans(),
    near=st.sampled_from(["anywhere", "a cut", "the text"]),
    number=st.integers(0, 900),
    policies=st.lists(st.sampled_from(POLICIES[:3]), unique=True),
    drops=st.booleans(),
    share=st.floats(0.1, 0.9),
)
def test_what_is_kept_fits_and_is_whole(
    opened, pictures, family, turns, system, near, number, policies, drops, share
) -> None:
    checkpoint, encoder = opened[family]
    conversation = conversation_of(turns, pictures, system=system)
    measure = encoder.measure(conversation)
    max_length = limit_of(conversation, measure, encoder, near, number)
    rules = FitRules(
        max_length=max_length,
        policies=(*policies, *(["drop"] if drops else [])),
        vision_share=share,
    )
    fitted = fit(conversation, measure, encoder, rules)
    again = fit(conversation, measure, encoder, rules)
    assert (again.pieces, again.reason, str(again.fault)) == (
        fitted.pieces,
        fitted.reason,
        str(fitted.fault),
    )
    assert set(fitted.policies) <= set(rules.policies)

    num_trained = sum(m.role == "assistant" and m.is_trained for m in conversation.messages)
    if measure.num_tokens <= max_length:
        assert (len(fitted.pieces), fitted.policies, fitted.reason) == (1, (), None)
    elif not fitted.pieces:
        # Dropped or refused, and why is said with both numbers.
        said = fitted.reason if drops else str(fitted.fault)
        assert (fitted.fault is None) == drops
        assert str(measure.num_tokens) in said
        assert str(max_length) in said
    kept_answers = 0
    for number, piece in enumerate(fitted.pieces):
        part = cut(conversation, piece.turns, number)
        sample = encoder.encode(part, piece.limits)
        assert sample.num_tokens == piece.measure.num_tokens <= max_length
        assert sample.num_supervised_tokens == piece.measure.num_supervised_tokens > 0
        assert_whole(sample, checkpoint, encoder)
        kept_answers += sum(m.role == "assistant" and m.is_trained for m in part.messages)
        # Nothing goes under min_pixels, unless it was under it before.
        pre = checkpoint.preprocessing
        for image in sample.images:
            full = resize_image(image.height, image.width, pre.image_patching, pre.image_budget)
            seen = image.resized[0] * image.resized[1]
            assert seen >= min(pre.image_budget.min_pixels, full[0] * full[1])
            assert image.grid_thw == image_grid_thw(image.resized, pre.image_patching)
    if fitted.fault is None:
        assert kept_answers + fitted.num_answers_lost == num_trained


def limit_of(
    conversation: Conversation, measure: Measure, encoder: Encoder, near: str, number: int
) -> int:
    """A limit anywhere, or where one token decides: at a cut, or with the media nearly gone."""
    if near == "the text":
        return measure.num_text_tokens + number % 24
    if near == "a cut":
        stop = len(conversation.messages) - (conversation.messages[0].role == "system")
        start = 2 * (number % (stop // 2))
        part = encoder.measure(cut(conversation, Turns(start=start, stop=stop)))
        return part.num_tokens - 2 + number // 7 % 4
    return 40 + number


def assert_whole(sample, checkpoint: Checkpoint, encoder: Encoder) -> None:
    """Placeholders equal grids, and every trained answer ends with the token that closes it."""
    tokenizer = checkpoint.processor.tokenizer
    of_images, _ = encoder.vision_tokens(sample.images, sample.videos)
    rule = checkpoint.position_rule
    assert int((sample.input_ids == rule.image_token_id).sum()) == sum(of_images)
    # An image's tokens stand between its own start and end.
    start = tokenizer.convert_tokens_to_ids("<|vision_start|>")
    end = tokenizer.convert_tokens_to_ids("<|vision_end|>")
    starts = np.flatnonzero(sample.input_ids == start)
    ends = np.flatnonzero(sample.input_ids == end)
    assert (ends - starts - 1).tolist() == of_images
    labels = sample.labels
    assert not np.isin(labels, [rule.image_token_id, start, end]).any()
    closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
    last_of_answer = (labels[:-1] != IGNORE_INDEX) & (labels[1:] == IGNORE_INDEX)
    assert (labels[:-1][last_of_answer] == closing).all()
    trained = [m for m in sample.conversation.messages if m.role == "assistant" and m.is_trained]
    assert int((labels == closing).sum()) == len(trained)


def test_a_question_without_a_picture_keeps_the_last_one(opened, pictures) -> None:
    _, encoder = opened["qwen2_5_vl"]
    turns = [([3], 2, 2, True, False), ([], 2, 2, True, False), ([], 2, 2, True, False)]
    conversation = conversation_of(turns, pictures, system=False)
    measure = encoder.measure(conversation)
    rules = FitRules(max_length=measure.num_tokens - 1, policies=("trim",), vision_share=0.5)
    [piece] = fit(conversation, measure, encoder, rules).pieces
    part = cut(conversation, piece.turns)
    assert [image.path for image in part.images()] == [pictures[3]]
    assert part.messages[0].has_media
    assert len(part.messages) == 4


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_media_keep_their_share_and_the_text_gives_way(opened, pictures, family) -> None:
    """Text that takes nearly all of the limit, in one turn after the other, and one picture."""
    _, encoder = opened[family]
    turns = [([3], 3, 3, True, False), *[([], 3, 3, True, False)] * 4]
    conversation = conversation_of(turns, pictures, system=False)
    measure = encoder.measure(conversation)
    full = measure.num_vision_tokens
    limit = measure.num_text_tokens + full // 2
    kept = {}
    for share in (0.4, 0.6, 0.9):
        rules = FitRules(max_length=limit, policies=("shrink", "trim"), vision_share=share)
        [piece] = fit(conversation, measure, encoder, rules).pieces
        # Grids are whole: up to a row less.
        assert piece.measure.num_vision_tokens >= share * min(full, limit) - full**0.5
        kept[share] = (piece.measure.num_vision_tokens, piece.turns.stop - piece.turns.start)
    assert kept[0.4][1] == len(conversation.messages)
    assert kept[0.4][0] <= full // 2
    assert kept[0.6][1] < len(conversation.messages)
    assert kept[0.6][0] > kept[0.4][0]
    # With nothing but shrink the picture goes below its share.
    rules = FitRules(max_length=limit, policies=("shrink",), vision_share=0.9)
    [piece] = fit(conversation, measure, encoder, rules).pieces
    assert piece.measure.num_vision_tokens == kept[0.4][0]


def test_why_a_sample_is_dropped_follows_from_what_was_tried(opened, pictures) -> None:
    _, encoder = opened["qwen2_5_vl"]
    turns = [([3], 2, 2, True, False), ([1], 40, 40, True, False)]
    conversation = conversation_of(turns, pictures, system=False)
    measure = encoder.measure(conversation)
    last = encoder.measure(cut(conversation, Turns(start=2, stop=4)))
    alone = f"its last question and answer alone take {last.num_tokens}"

    def reason(*policies) -> str:
        rules = FitRules(max_length=60, policies=(*policies, "drop"), vision_share=0.5)
        fitted = fit(conversation, measure, encoder, rules)
        assert fitted.pieces == ()
        return fitted.reason

    assert reason().endswith("data.fit names nothing that would make it shorter")
    assert reason("shrink").endswith(
        f"its text alone takes {measure.num_text_tokens}; media at min_pixels do not bring it "
        "under either"
    )
    assert alone in reason("trim")
    assert "min_pixels" not in reason("trim")
    assert alone in reason("shrink", "split", "trim")


def test_a_box_keeps_its_image_and_moves_with_it(opened, pictures) -> None:
    _, encoder = opened["qwen2_5_vl"]
    turns = [([3], 2, 2, True, False), ([1], 2, 2, True, True)]
    conversation = conversation_of(turns, pictures, system=False)
    whole = encoder.encode(conversation)
    assert whole.conversation.messages[-1].text.endswith("[11, 56, 56, 252]")
    last = cut(conversation, Turns(start=2, stop=4))
    [box] = [part for part in last.messages[-1].parts if isinstance(part, BoxPart)]
    assert box.image == 0
    assert encoder.encode(last).conversation.messages[-1].text.endswith("[11, 56, 56, 252]")
