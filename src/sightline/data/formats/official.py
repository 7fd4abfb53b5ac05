"""The shape of Qwen's own fine-tuning code.

    {"image": "a.png" | ["a.png", ...], "video": ...,
     "conversations": [{"from": "human", "value": "<image>\\nWhat?"},
                       {"from": "gpt", "value": "…"}]}

A row may also be a list of such rows, which that code packs into one; here each is a sample, and
packing is decided for the whole run.

White space: that code cuts a human's text at the placeholders and strips every piece, so the line
break of ``<image>\\nWhat?`` does not reach the model, and neither does the one of
``What?\\n<image>``. The answer is taken as it stands. Here it is the same.

Two things differ from that code, and both are refused here instead of done: an unknown speaker,
which it takes for the assistant, and a placeholder in an answer, which it leaves as plain text.

Reference: ``_build_messages`` in qwen-vl-finetune/qwenvl/data/data_processor.py of QwenLM/Qwen3-VL,
checked in tests/unit/data/test_official.py.
"""

from __future__ import annotations

from sightline.data.conversation import Message, Role
from sightline.data.formats.base import (
    Row,
    RowContext,
    check_text,
    is_trained,
    read_role,
    turn_list,
)
from sightline.data.formats.placeholders import Turn, build_messages, media_list

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def parse_official(row: Row, context: RowContext) -> tuple[Message, ...]:
    """The messages of a row of the official shape.

    Raises:
        DataError: The row is wrong; the message names the field.
    """
    turns: list[Turn] = []
    for index, turn in enumerate(turn_list(row, "conversations", context)):
        field = f"conversations[{index}]"
        role = read_role(turn, "from", ROLES, context, field=field)
        text = check_text(turn.get("value"), context, field=f"{field}.value")
        turns.append(
            Turn(
                role=role,
                text=text,
                field=field,
                text_field=f"{field}.value",
                is_trained=is_trained(turn, context, field=field),
            )
        )
    media = (media_list(row, "image", "image", context), media_list(row, "video", "video", context))
    return build_messages(turns, media, context, strip_text=True)
