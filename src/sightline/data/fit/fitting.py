"""A sample over ``max_length``, brought under it: shrunk, split, trimmed or dropped.

Whole turns and whole media stay or go, and what stays is rendered anew by the chat template; so no
cut can fall inside a vision span or an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sightline.config import Policy
from sightline.data.conversation import Conversation, Message
from sightline.data.encode import Encoder, Measure, MediaLimits
from sightline.data.fit.cutting import Turns, cut, segments_of, turns_of
from sightline.data.fit.shrinking import may_shrink, shrink
from sightline.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class FitRules:
    """What is done with a sample that is too long.

    Attributes:
        max_length: Longest sample, tokens.
        policies: Tried in this order.
        vision_share: Share of their tokens, or of ``max_length`` where they take more, that media
            keep as long as another policy makes room.
    """

    max_length: int
    policies: tuple[Policy, ...]
    vision_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One conversation to train on.

    Attributes:
        turns: Which turns of the sample.
        limits: Pixel limits of its media.
        measure: What it costs.
        policies: What was done, in order.
    """

    turns: Turns
    limits: MediaLimits
    measure: Measure
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What became of a sample.

    Attributes:
        pieces: Conversations to train on; none where it is dropped.
        num_answers_lost: Trained answers that are in none of them.
        reason: Why something had to be done.
        fault: Set where no policy brings it under the limit and drop is not among them.
    """

    pieces: tuple[Piece, ...]
    num_answers_lost: int = 0
    reason: str | None = None
    fault: DataError | None = None

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Everything that was done, each once."""
        if not self.pieces and self.fault is None:
            return ("drop",)
        return tuple(dict.fromkeys(policy for piece in self.pieces for policy in piece.policies))


def fit(conversation: Conversation, measure: Measure, encoder: Encoder, rules: FitRules) -> Fitted:
    """Bring a sample under the limit.

    The same sample, encoder and rules give the same result in every process.

    Args:
        conversation: The parsed sample.
        measure: What it costs at its full size.
        encoder: The run's encoder.
        rules: Limit and policies.
    """
    whole = Turns(start=0, stop=len(turns_of(conversation)))
    if measure.num_tokens <= rules.max_length:
        return Fitted(pieces=(Piece(turns=whole, limits=MediaLimits(), measure=measure),))
    reason = (
        f"{measure.num_tokens} tokens, {measure.num_vision_tokens} of them vision, over "
        f"max_length {rules.max_length}"
    )
    for share in (rules.vision_share, None):
        attempt = _Attempt(conversation, encoder, rules, share)
        pieces = attempt.fit(whole, rules.policies)
        if pieces:
            lost = _num_answers(conversation, [whole]) - _num_answers(
                conversation, [piece.turns for piece in pieces]
            )
            return Fitted(pieces=tuple(pieces), num_answers_lost=lost, reason=reason)
    why = _why_not(conversation, measure, encoder, rules)
    if "drop" in rules.policies:
        return Fitted(
            pieces=(),
            num_answers_lost=_num_answers(conversation, [whole]),
            reason=f"{reason}; {why}",
        )
    fault = conversation.origin.error(
        f"the sample takes {reason}, and {', '.join(rules.policies) or 'no policy'} does not bring "
        f"it under: {why}.",
        fix=f"Raise data.max_length to {measure.num_tokens}, or add a policy to data.fit.",
        code="fit.too_long",
    )
    return Fitted(pieces=(), fault=fault)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One way through the policies, with a share for the media or without."""

    conversation: Conversation
    encoder: Encoder
    rules: FitRules
    share: float | None
    measures: dict[Turns, Measure] = field(default_factory=dict)

    def fit(self, turns: Turns, policies: Sequence[Policy]) -> list[Piece]:
        """The turns as pieces that fit, by the first policy that does it; none where none does."""
        may_shrink_too = False
        for index, policy in enumerate(policies):
            if policy == "shrink":
                may_shrink_too = True
                pieces = self._whole_or_shrunk(turns, (), may_shrink_too=True)
            elif policy == "split":
                later: list[Policy] = ["shrink"] if may_shrink_too else []
                later.extend(policies[index + 1 :])
                pieces = self._split(turns, later)
            elif policy == "trim":
                pieces = self._trimmed(turns, may_shrink_too=may_shrink_too)
            else:
                return []
            if pieces:
                return pieces
        return []

    def _measure(self, turns: Turns) -> Measure:
        if turns not in self.measures:
            self.measures[turns] = self.encoder.measure(cut(self.conversation, turns))
        return self.measures[turns]

    def _fits(self, turns: Turns) -> bool:
        return self._measure(turns).num_tokens <= self.rules.max_length

    def _whole_or_shrunk(
        self, turns: Turns, done: tuple[Policy, ...], *, may_shrink_too: bool
    ) -> list[Piece]:
        measure = self._measure(turns)
        if measure.num_tokens <= self.rules.max_length:
            return [Piece(turns=turns, limits=MediaLimits(), measure=measure, policies=done)]
        if not may_shrink_too:
            return []
        shrunk = shrink(
            measure, self.encoder, max_length=self.rules.max_length, vision_share=self.share
        )
        if shrunk is None:
            return []
        smaller, limits = shrunk
        return [Piece(turns=turns, limits=limits, measure=smaller, policies=(*done, "shrink"))]

    def _split(self, turns: Turns, later: Sequence[Policy]) -> list[Piece]:
        """One conversation for as many of the pictures' turns as fit together."""
        segments = segments_of(self.conversation, turns)
        if len(segments) < 2:
            return []
        groups: list[Turns] = []
        for segment in segments:
            if groups:
                grown = Turns(start=groups[-1].start, stop=segment.stop)
                if self._fits(grown):
                    groups[-1] = grown
                    continue
            groups.append(segment)
        pieces: list[Piece] = []
        for group in groups:
            fitting = self._whole_or_shrunk(group, (), may_shrink_too=False)
            for piece in fitting or self.fit(group, [p for p in later if p != "split"]):
                pieces.append(
                    Piece(
                        turns=piece.turns,
                        limits=piece.limits,
                        measure=piece.measure,
                        policies=("split", *piece.policies),
                    )
                )
        # Nothing but trained answers is worth a piece.
        return [piece for piece in pieces if piece.measure.num_supervised_tokens > 0]

    def _trimmed(self, turns: Turns, *, may_shrink_too: bool) -> list[Piece]:
        """Without as many of the oldest exchanges as need be."""
        messages = turns_of(self.conversation)
        for start in range(turns.start + 2, turns.stop, 2):
            shorter = Turns(start=start, stop=turns.stop)
            if _num_trained(messages, shorter) == 0:
                return []
            pieces = self._whole_or_shrunk(shorter, ("trim",), may_shrink_too=may_shrink_too)
            if pieces:
                return pieces
        return []


def _num_trained(messages: Sequence[Message], turns: Turns) -> int:
    kept = messages[turns.start : turns.stop]
    return sum(message.role == "assistant" and message.is_trained for message in kept)


def _num_answers(conversation: Conversation, ranges: Sequence[Turns]) -> int:
    messages = turns_of(conversation)
    return sum(_num_trained(messages, turns) for turns in ranges)


def _why_not(
    conversation: Conversation, measure: Measure, encoder: Encoder, rules: FitRules
) -> str:
    """Why no policy helped, in the end of a sentence."""
    tried = [policy for policy in rules.policies if policy != "drop"]
    if not tried:
        return "data.fit names nothing that would make it shorter"
    why = []
    if "trim" in tried or "split" in tried:
        stop = len(turns_of(conversation))
        last = encoder.measure(cut(conversation, Turns(start=stop - 2, stop=stop)))
        why.append(
            f"its last question and answer alone take {last.num_tokens}, "
            f"{last.num_vision_tokens} of them vision"
        )
    elif measure.num_text_tokens > rules.max_length:
        why.append(f"its text alone takes {measure.num_text_tokens}")
    if "shrink" in tried and measure.num_vision_tokens:
        if not may_shrink(conversation, encoder):
            why.append("boxes in its text are pixels of the resized picture, so it is not shrunk")
        else:
            why.append("media at min_pixels do not bring it under either")
    return "; ".join(why) or "nothing of it can go"
