"""ShareGPT as LLaMA-Factory writes and declares it.

    {"conversations": [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "…"}],
     "images": ["a.png"], "videos": ["b.mp4"]}

The names of the fields and the roles are declared (``columns`` and ``tags``); with other names the
row may be ``{"messages": [{"role": "user", "content": "…"}, …], "images": […]}``. The text reaches
the model exactly as it is written: a line break after a placeholder stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareGptShape:
    """How the fields and the roles of the rows are called.

    Attributes:
        messages: Field with the list of turns.
        images: Field with the list of image files; None: the rows have none.
        videos: Field with the list of video files; None: the rows have none.
        system: Field with the system prompt; None: the rows have none.
        role_tag: Field of a turn with the role.
        content_tag: Field of a turn with the text.
        user_tag: The role of the user.
        assistant_tag: The role of the assistant.
        system_tag: The role of a system turn, which may only come first; None: there is none.
    """

    messages: str = "conversations"
    images: str | None = "images"
    videos: str | None = "videos"
    system: str | None = "system"
    role_tag: str = "from"
    content_tag: str = "value"
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    system_tag: str | None = "system"

    def roles(self) -> Mapping[str, Role]:
        """The names of the roles."""
        return _roles(self.user_tag, self.assistant_tag, self.system_tag)


@cache
def _roles(user: str, assistant: str, system: str | None) -> Mapping[str, Role]:
    roles: dict[str, Role] = {user: "user", assistant: "assistant"}
    if system is not None:
        roles[system] = "system"
    return roles


def guess_shape(row: Row) -> ShareGptShape:
    """The shape of a row that nothing is declared about, from the names that its turns use."""
    messages = "conversations" if "conversations" in row else "messages"
    turns = row.get(messages)
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, dict) and "role" in first:
        role_tag, content_tag = "role", "content"
    else:
        role_tag, content_tag = "from", "value"
    names = _role_names(turns if isinstance(turns, list) else [], role_tag)
    chat = "user" in names or "assistant" in names
    return _guessed(messages, role_tag, content_tag, chat)


@cache
def _guessed(messages: str, role_tag: str, content_tag: str, chat: bool) -> ShareGptShape:
    return ShareGptShape(
        messages=messages,
        role_tag=role_tag,
        content_tag=content_tag,
        user_tag="user" if chat else "human",
        assistant_tag="assistant" if chat else "gpt",
    )


def _role_names(turns: Sequence[object], role_tag: str) -> set[object]:
    roles = (turn.get(role_tag) for turn in turns if isinstance(turn, dict))
    return {role for role in roles if isinstance(role, str)}


def parse_sharegpt(row: Row, shape: ShareGptShape, context: RowContext) -> tuple[Message, ...]:
    """The messages of a row of this shape.

    An empty system prompt counts as none, as in LLaMA-Factory: the chat template's own holds.

    Raises:
        DataError: The row is wrong; the message names the field.
    """
    roles = shape.roles()
    turns: list[Turn] = []
    for index, turn in enumerate(turn_list(row, shape.messages, context)):
        field = f"{shape.messages}[{index}]"
        text_field = f"{field}.{shape.content_tag}"
        role = read_role(turn, shape.role_tag, roles, context, field=field)
        text = check_text(turn.get(shape.content_tag), context, field=text_field)
        if role != "system" or text:
            trained = is_trained(turn, context, field=field)
            turns.append(
                Turn(role=role, text=text, field=field, text_field=text_field, is_trained=trained)
            )
    turns = _with_system_field(row, shape, turns, context)
    media = (
        media_list(row, "image", shape.images, context),
        media_list(row, "video", shape.videos, context),
    )
    return build_messages(turns, media, context)


def _with_system_field(
    row: Row, shape: ShareGptShape, turns: list[Turn], context: RowContext
) -> list[Turn]:
    """The turns with the row's system prompt first. A system turn goes before the field."""
    prompt = row.get(shape.system) if shape.system is not None else None
    if shape.system is None or prompt is None or prompt == "":
        return turns
    text = check_text(prompt, context, field=shape.system)
    if turns and turns[0].role == "system":
        return turns
    return [Turn(role="system", text=text, field=shape.system, text_field=shape.system), *turns]
