"""Out of memory in words: what was in hand, what it costs, and settings that need less."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from sightline.config import RunConfig
from sightline.data import EncodedSample
from sightline.data.samples import PlannedSamples
from sightline.errors import OutOfMemoryError
from sightline.training.memory_usage import Usage, memory_kind, size_text, usage_of
from sightline.training.processes import num_processes
from sightline.training.steps import PlannedStep

_NUM_SHOWN = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldSample:
    """A sample of the batch that was in hand.

    Attributes:
        origin: Its file and line.
        num_tokens: Its tokens.
        num_vision_tokens: Those of pictures and videos.
        num_patches: Patches that the vision tower sees.
    """

    origin: str
    num_tokens: int
    num_vision_tokens: int
    num_patches: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What was in hand.

    Attributes:
        samples: Those of the micro-batch; none where it was not on one.
        resting: Bytes that were in use before the step; None where they are not known.
    """

    samples: Sequence[HeldSample] = ()
    resting: int | None = None


class InHand(NamedTuple):
    """The step that is trained or evaluated, its data, and the bytes that were in use before."""

    step: PlannedStep
    samples: Sequence[EncodedSample]
    resting: int | None

    def held(self) -> Held:
        """What is known of the micro-batch that it is on."""
        if not isinstance(self.samples, PlannedSamples):
            return Held(resting=self.resting)
        samples = held_samples(self.samples, self.step.in_hand)
        return Held(samples=samples, resting=self.resting)


@contextmanager
def out_of_memory_explained(
    config: RunConfig, held: Callable[[], Held] = lambda: Held()
) -> Iterator[None]:
    """Turn the end of memory into one message.

    Args:
        config: The run's configuration.
        held: What was in hand.

    Raises:
        OutOfMemoryError: Memory ended.
    """
    try:
        yield
    except Exception as error:
        kind = memory_kind(error)
        if kind is None:
            raise
        usage = usage_of(kind, str(error))
        # Frames that are over hold the tensors of the step; a message needs memory, too.
        traceback.clear_frames(error.__traceback__)
        try:
            hand = held()
        except (MemoryError, OSError):
            hand = Held()
        usage = replace(usage, resting=hand.resting)
        raise OutOfMemoryError(_message(usage, hand.samples, config)) from error


def held_samples(samples: PlannedSamples, numbers: Sequence[int]) -> list[HeldSample]:
    """What is known of samples without decoding them.

    Args:
        samples: The conversations of an epoch.
        numbers: Which of them.
    """
    items = [samples.item(number) for number in numbers]
    return [
        HeldSample(
            origin=str(samples.origin(number)),
            num_tokens=item.num_tokens,
            num_vision_tokens=item.num_vision_tokens,
            num_patches=item.num_patches,
        )
        for number, item in zip(numbers, items, strict=True)
    ]


def _message(usage: Usage, samples: Sequence[HeldSample], config: RunConfig) -> str:
    wanted = "" if usage.wanted is None else f": {size_text(usage.wanted)} more were asked for"
    in_use = ""
    if usage.in_use is not None:
        of_all = "" if usage.limit is None else f" of {size_text(usage.limit)} that it may"
        in_use = f"{',' if wanted else ':'} this process holds {size_text(usage.in_use)}{of_all}"
    lines = [f"out of memory on {usage.place}{wanted}{in_use}.", *_batch_lines(samples)]
    lines.append("What needs less:")
    lines += [f"  {one}" for one in settings_that_need_less(samples, config, usage)]
    return "\n".join(lines)


def _batch_lines(samples: Sequence[HeldSample]) -> list[str]:
    if not samples:
        return []
    tokens = sum(one.num_tokens for one in samples)
    vision = sum(one.num_vision_tokens for one in samples)
    patches = sum(one.num_patches for one in samples)
    of = "1 sample" if len(samples) == 1 else f"{len(samples)} samples"
    lines = [
        f"It was on {of} with {tokens:,} tokens, {vision:,} of them vision ({patches:,} patches):"
    ]
    longest = sorted(samples, key=lambda one: -one.num_tokens)
    lines += [
        f"  {one.origin}: {one.num_tokens:,} tokens, {one.num_vision_tokens:,} vision"
        for one in longest[:_NUM_SHOWN]
    ]
    if len(samples) > _NUM_SHOWN:
        lines.append(f"  and {len(samples) - _NUM_SHOWN} shorter ones")
    return lines


def settings_that_need_less(
    samples: Sequence[HeldSample], config: RunConfig, usage: Usage
) -> list[str]:
    """Keys and values, what costs least time first.

    Args:
        samples: The batch in hand.
        config: The run's configuration.
        usage: The memory that ended.
    """
    training = config.training
    said = []
    if samples and not training.gradient_checkpointing:
        said.append("training.gradient_checkpointing: true")
    share = usage.share_that_fits or 0.5
    tokens = sum(one.num_tokens for one in samples)
    if len(samples) > 1:
        said.append(_smaller_batch(samples, config, share))
    elif samples:
        [sample] = samples
        if sample.num_vision_tokens:
            limit = config.data.images.max_pixels
            now = "" if limit is None else f" (now {limit:,})"
            half = "lower" if limit is None else f"{int(limit * share):,}"
            said.append(f"data.images.max_pixels or data.videos.max_pixels: {half}{now}")
        said.append(f"data.max_length: {max(1, int(tokens * share))}; data.fit says how")
    else:
        # Loading, or the first step of the optimizer, which makes its state.
        said.append("tuning: lora in place of full, a lower tuning.lora.rank, or a tower frozen")
        if config.tuning.quantization == "none":
            said.append("tuning.quantization: nf4")
    if training.num_workers and usage.place == "this machine":
        said.append(f"training.num_workers: {training.num_workers // 2}")
    if num_processes() > 1 and training.parallel == "ddp":
        said.append("training.parallel: fsdp, by which processes share weights and optimizer")
    said.append("sightline check RUN.yaml estimates memory by part, and proposes what fits")
    return said


def _smaller_batch(samples: Sequence[HeldSample], config: RunConfig, share: float) -> str:
    """The same step in smaller forward passes."""
    training = config.training
    if training.tokens_per_step is not None or training.tokens_per_row is not None:
        tokens = sum(one.num_tokens for one in samples)
        # A sample that is longer goes alone: less than the longest changes nothing for it.
        longest = max(one.num_tokens for one in samples)
        now = training.tokens_per_row
        was = "" if now is None else f" (now {now:,})"
        return f"training.tokens_per_row: {max(longest, int(tokens * share))}{was}"
    size = max(1, int(training.batch_size * share))
    accumulation = -(-training.batch_size * training.gradient_accumulation // size)
    return (
        f"training.batch_size: {size} with training.gradient_accumulation: {accumulation} "
        f"(now {training.batch_size} and {training.gradient_accumulation})"
    )
