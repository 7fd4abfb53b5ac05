"""What a plain user of transformers reads out of a conversation."""

from __future__ import annotations

from sightline.checks.plain import annotation, before_last_answer, question

TURNS = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "First: "},
            {"type": "image", "image": "/a.png"},
            {"type": "text", "text": "What?"},
        ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
    {"role": "user", "content": [{"type": "video", "video": "/b.mp4"}]},
    {
        "role": "assistant",
        "content": [{"type": "text", "text": "It "}, {"type": "text", "text": "moves."}],
    },
]


def test_the_last_answer_is_taken_away_and_nothing_else() -> None:
    assert before_last_answer(TURNS) == TURNS[:4]
    assert len(TURNS) == 5


def test_the_annotation_is_the_whole_last_answer() -> None:
    assert annotation(TURNS) == "It moves."
    assert annotation(TURNS[:3]) == "A star."


def test_the_question_is_the_text_before_it_without_media() -> None:
    assert question(TURNS[:3]) == "First: What?"
    assert question(TURNS) == ""
