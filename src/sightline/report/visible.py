"""Text of data as it is, with what would not be seen made visible."""

from __future__ import annotations

# Characters that have no shape of their own: controls, and what turns the direction of text.
_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_INVISIBLE = (0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF, *range(0x80, 0xA0))
_SHOWN = {
    **_CONTROL_PICTURES,
    0x7F: "\u2421",
    **{code: f"⟨U+{code:04X}⟩" for code in (*_DIRECTIONS, *_INVISIBLE)},
}


def visible_text(text: str) -> str:
    """A text in which nothing is hidden and nothing turns what stands around it.

    Half characters, as in file names that are not UTF-8, become question marks.

    >>> visible_text("a\\u202eb\\x00"), visible_text("猫\\n")
    ('a⟨U+202E⟩b␀', '猫\\n')
    """
    return text.encode("utf-8", "replace").decode("utf-8").translate(_SHOWN)
