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
    "rejected_response": "a rejected answer (preference data)",
    "rejected_messages": "rejected answers (preference data)",
}
UNREAD_TURN_FIELDS = {"tool_calls": "tool calls"}
# Fields of a turn that say whether the loss sees it: ms-swift's, and OpenAI's own.
TRAINED_FIELDS = ("loss", "loss_scale", "weight")


@dataclass(kw_only=True, slots=True)
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

    def error(
        self,
        what: str,
        *,
        field: str | None = None,
        fix: str | None = None,
        code: str = "sample.wrong",
    ) -> DataError:
        """An error about a field of this row."""
        return self.origin.error(what, field=field, fix=fix, code=code)


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
        # 1 and true are what happens anyway: the turn is trained, with weight one. A table has an
        # object of nulls where other rows have the field.
        if value is None or value == 1 or value in ([], {}, ""):
            continue
        raise context.error(
            f"this field holds {meaning}, which this version does not read.",
            field=name if field is None else f"{field}.{name}",
            fix="Remove the field, or leave the sample out.",
            code="field.unread",
        )


def is_trained(turn: Row, context: RowContext, *, field: str) -> bool:
    """Whether the loss sees a turn, as its own field says; yes where it says nothing.

    Raises:
        DataError: The field holds something else than yes, no, 1 or 0.
    """
    for name in TRAINED_FIELDS:
        value = turn.get(name)
        if value is None:
            continue
        if isinstance(value, bool | int | float) and value in (0, 1):
            return bool(value)
        found = f"{value:g}" if isinstance(value, int | float) else kind_of(value)
        raise context.error(
            f"whether the turn is trained is true, false, 1 or 0, found {found}.",
            field=f"{field}.{name}",
            fix="An answer is trained or not; it has no weight in between here.",
        )
    return True


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
        raise context.error(
            "the sample has no turns.", field=name, fix="Leave the sample out.", code="turns.none"
        )
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
    if isinstance(value, str) and value in roles:
        return roles[value]
    if name not in turn:
        what = f"the turn has no field {name!r}; it has {', '.join(turn) or 'none'}."
        raise context.error(what, field=field)
    found = shortened(value) if isinstance(value, str) else kind_of(value)
    raise context.error(
        f"the role {found} is unknown.",
        field=f"{field}.{name}",
        fix=f"Known here: {', '.join(roles)}.",
        code="role.unknown",
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
                code="text.control",
            )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise context.error(
            f"character {error.start + 1} is half of a surrogate pair, which is not text.",
            field=field,
            fix="Write the whole character, or remove it.",
            code="text.encoding",
        ) from error
    return value


def check_order(messages: Sequence[Message], context: RowContext) -> tuple[Message, ...]:
    """The messages, if they can be trained on.

    An optional system message, then user and assistant in turns, the assistant last, and no user
    or assistant turn that says nothing.

    Raises:
        DataError: The order is another one, or a turn is empty.
    """
    order: tuple[Role, Role] = ("user", "assistant")
    start = 1 if messages and messages[0].role == "system" else 0
    for index, message in enumerate(messages[start:]):
        expected = order[index % 2]
        if message.role != expected:
            raise context.error(
                f"{_stated(message.role)} turn stands where {_stated(expected)} turn is expected.",
                field=message.field,
                fix="A sample is an optional system turn, then user and assistant in turns.",
                code="turns.order",
            )
        _refuse_empty(message, context)
    if not messages or messages[-1].role != "assistant":
        if not messages:
            raise context.error("the sample has no turns.", fix="Leave it out.", code="turns.none")
        raise context.error(
            f"the last turn is {_stated(messages[-1].role)} turn, so nothing would be learned.",
            field=messages[-1].field,
            fix="End the sample with the assistant's answer.",
            code="turns.order",
        )
    if not any(message.is_trained for message in messages if message.role == "assistant"):
        raise context.error(
            "no answer is trained: every one of them says so.",
            field=messages[-1].field,
            fix="Leave the sample out, or let one answer be trained.",
            code="answer.untrained",
        )
    return tuple(messages)


def _stated(role: Role) -> str:
    return {"system": "a system", "user": "a user", "assistant": "an assistant"}[role]


def _refuse_empty(message: Message, context: RowContext) -> None:
    if message.text.strip() or not all(isinstance(part, TextPart) for part in message.parts):
        return
    whose, what = (
        ("answer", "answer") if message.role == "assistant" else ("user's turn", "question")
    )
    raise context.error(
        f"the {whose} is empty.",
        field=message.field,
        fix=f"Write the {what}, or leave the sample out.",
        code="turns.empty",
    )
