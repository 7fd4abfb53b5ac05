"""What differs between an annotation and an answer."""

from __future__ import annotations

from sightline.report.answers import compare_texts


def test_numbers_that_moved_are_marked_whole() -> None:
    texts = compare_texts('{"bbox_2d": [57, 3, 105, 51]}', '{"bbox_2d": [5, 3, 51, 41]}')
    assert [piece.text for piece in texts.annotation if piece.differs] == ["57", "105", "51"]
    assert [piece.text for piece in texts.answer if piece.differs] == ["5", "51", "41"]
    assert "".join(piece.text for piece in texts.answer) == '{"bbox_2d": [5, 3, 51, 41]}'


def test_equal_and_empty_texts() -> None:
    assert [piece.differs for piece in compare_texts("猫在这里。", "猫在这里。").answer] == [False]
    assert compare_texts("a", "").answer == ()


def test_long_texts_are_cut_and_counted() -> None:
    texts = compare_texts("a " * 2000, "b")
    assert texts.num_hidden == 1000
    assert len("".join(piece.text for piece in texts.annotation)) == 3000
