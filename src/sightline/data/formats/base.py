"""What the three shapes share: where a row stands, and what its roles and text must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.data.conversation import Message, Origin, Role, TextPart
from sightline.data.formats.media import MediaFolder, shortened
from sightline.errors import DataError
from sightline.families import Tokens

Row = Mapping[str, object]

STRUCTURAL_TOKENS = Tokens().structural()

# Fields that change what a sample means and that this version does not act on. Left alone they
# would be lost without a word.
UNREAD_ROW_FIELDS = {
    "tools": "tool declarations",
    "audio": "audio",
    "audios": "audio",
    "objects": "boxes that fill <bbox> and <ref-object>",
}
UNREAD_TURN_FIELDS = {
    "tool_calls": "tool calls",
    "loss": "a choice of the turns that are trained",
    "loss_scale": "a weight of a turn in the loss",
    "weight": "a choice of the turns that are trained",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowContext:
    """Where a row stands, and what its text and media are checked against.

    Attributes:
        origin: File, line and index of the row.
        media: The folder of the media files.
        structural_tokens: Tokens that text must not contain.
    """

    origin: Origin
    media: MediaFolder
    structural_tokens: tuple[str, ...] = STRUCTURAL_TOKENS

    def error(self, what: str, *, field: str | None = None, fix: str | None = None) -> DataError:
        """An error about a field of this row."""
        return DataError(what, file=self.origin.file, line=self.origin.line, field=field, fix=fix)


def kind_of(value: object) -> str:
    """What a JSON value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def refuse_unread_fields(
    holder: Row, unread: Mapping[str, str], context: RowContext, *, field: str | None = None
) -> None:
    """Refuse a field that would change the sample and that this version does not read."""
    for name, meaning in unread.items():
        value = holder.get(name)
        # 1 and true are what happens anyway: the turn is trained, with weight one.
        if value is None or value == 1 or value == [] or value == "":
            continue
        raise context.error(
            f"this field holds {meaning}, which this version does not read.",
            field=name if field is None else f"{field}.{name}",
            fix="Remove the field, or leave the sample out.",
        )


def turn_list(row: Row, name: str, context: RowContext) -> list[Row]:
    """The turns of a row as objects, in order.

    Raises:
        DataError: The field is missing, empty, or holds something else than objects.
    """
    turns = row.get(name)
    if not isinstance(turns, list):
        found = kind_of(turns) if name in row else f"only {', '.join(row) or 'nothing'}"
        raise context.error(f"a list of turns expected, found {found}.", field=name)
    if not turns:
        raise context.error("the sample has no turns.", field=name, fix="Leave the sample out.")
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            field = f"{name}[{index}]"
            raise context.error(f"an object expected, found {kind_of(turn)}.", field=field)
        refuse_unread_fields(turn, UNREAD_TURN_FIELDS, context, field=f"{name}[{index}]")
    return turns


def read_role(
    turn: Row, name: str, roles: Mapping[str, Role], context: RowContext, *, field: str
) -> Role:
    """The role of a turn.

    Args:
        turn: The turn.
        name: Name of the field that holds the role.
        roles: The names that a role may have here.
        context: Where the row stands.
        field: Path of the turn.

    Raises:
        DataError: The role is missing or none of ``roles``.
    """
    value = turn.get(name)
    known = ", ".join(roles)
    if isinstance(value, str) and value in roles:
        return roles[value]
    if name not in turn:
        what = f"the turn has no field {name!r}; it has {', '.join(turn) or 'none'}."
        raise context.error(what, field=field)
    found = shortened(value) if isinstance(value, str) else kind_of(value)
    raise context.error(
        f"the role {found} is unknown.", field=f"{field}.{name}", fix=f"Known here: {known}."
    )


def check_text(value: object, context: RowContext, *, field: str) -> str:
    """The value as text that is safe to hand to a tokenizer.

    Raises:
        DataError: It is no string, holds a structural token, or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise context.error(f"text expected, found {kind_of(value)}.", field=field)
    for token in context.structural_tokens:
        if token in value:
            raise context.error(
                f"the text contains {token}, which the tokenizer would read as a control token.",
                field=field,
                fix="Remove it from the text. The chat template writes the control tokens.",
            )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise context.error(
            f"character {error.start + 1} is half of a surrogate pair, which is not text.",
            field=field,
            fix="Write the whole character, or remove it.",
        ) from error
    return value


def check_order(messages: Sequence[Message], context: RowContext) -> tuple[Message, ...]:
    """The messages, if they can be trained on.

    An optional system message, then user and assistant in turns, the assistant last, and no user
    or assistant turn that says nothing.

    Raises:
        DataError: The order is another one, or a turn is empty.
    """
    order: list[Role] = ["user", "assistant"]
    start = 1 if messages and messages[0].role == "system" else 0
    for index, message in enumerate(messages[start:]):
        expected = order[index % 2]
        if message.role != expected:
            raise context.error(
                f"{_stated(message.role)} turn stands where {_stated(expected)} turn is expected.",
                field=message.field,
                fix="A sample is an optional system turn, then user and assistant in turns.",
            )
        _refuse_empty(message, context)
    if messages[-1].role != "assistant":
        raise context.error(
            f"the last turn is {_stated(messages[-1].role)} turn, so nothing would be learned.",
            field=messages[-1].field,
            fix="End the sample with the assistant's answer.",
        )
    return tuple(messages)


def _stated(role: Role) -> str:
    return {"system": "a system", "user": "a user", "assistant": "an assistant"}[role]


def _refuse_empty(message: Message, context: RowContext) -> None:
    if message.text.strip():
        return
    if message.role == "assistant":
        raise context.error(
            "the answer is empty.",
            field=message.field,
            fix="Write the answer, or leave the sample out.",
        )
    if all(isinstance(part, TextPart) for part in message.parts):
        raise context.error(
            "the user's turn is empty.",
            field=message.field,
            fix="Write the question, or leave the sample out.",
        )
