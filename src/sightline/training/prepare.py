"""Everything about the data of a run that can be known before a weight is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.config import RunConfig, Source
from sightline.data import EncodedSample, Encoder, read_source
from sightline.errors import ConfigError
from sightline.interop import expand_sources
from sightline.model import Checkpoint

OnSample = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedData:
    """Encoded data of a run.

    Attributes:
        train: Training samples, in the order of the sources.
        eval: Evaluation samples; empty where none are configured.
        max_length: The limit that they were held to, tokens.
    """

    train: list[EncodedSample]
    eval: list[EncodedSample]
    max_length: int


def make_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder of a checkpoint."""
    return Encoder(
        processor=checkpoint.processor,
        tokens=checkpoint.family.tokens,
        preprocessing=checkpoint.preprocessing,
        rule=checkpoint.position_rule,
    )


def prepare_data(
    config: RunConfig, checkpoint: Checkpoint, on_sample: OnSample | None = None
) -> PreparedData:
    """Read and encode all samples; the first fault in the data ends the run here.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        on_sample: Called with the number of samples done so far.

    Raises:
        ConfigError: ``max_length`` is over what the model was made for, or a source is wrong.
        DataError: A sample cannot be used, or is over ``max_length``.
    """
    limit = config.data.max_length
    if limit is not None and limit > checkpoint.max_length:
        raise ConfigError(
            f"data.max_length is {limit} tokens, but the model was made for "
            f"{checkpoint.max_length} (max_position_embeddings).\nLower data.max_length."
        )
    limit = limit or checkpoint.max_length
    encoder = make_encoder(checkpoint)
    train = _encode(config.data.train, encoder, checkpoint, limit, on_sample, 0)
    held_out = _encode(config.data.eval, encoder, checkpoint, limit, on_sample, len(train))
    return PreparedData(train=train, eval=held_out, max_length=limit)


def prepare_sample(config: RunConfig, checkpoint: Checkpoint, index: int) -> EncodedSample:
    """One training sample of a run; those before it are read and not encoded.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        index: Which sample, from 0, over all sources in order.

    Raises:
        ConfigError: There is no such sample.
        DataError: The sample cannot be used.
    """
    structural = checkpoint.family.tokens.structural()
    seen = 0
    for source in expand_sources(config.data.train):
        for conversation in read_source(
            source, structural_tokens=structural, strip_prefix=source.strip_prefix
        ):
            if seen == index:
                return make_encoder(checkpoint).encode(conversation)
            seen += 1
    raise ConfigError(f"--sample {index}: data.train has {seen} samples, 0 to {seen - 1}.")


def _encode(
    sources: Sequence[Source],
    encoder: Encoder,
    checkpoint: Checkpoint,
    limit: int,
    on_sample: OnSample | None,
    done: int,
) -> list[EncodedSample]:
    samples: list[EncodedSample] = []
    structural = checkpoint.family.tokens.structural()
    for source in expand_sources(sources):
        for conversation in read_source(
            source, structural_tokens=structural, strip_prefix=source.strip_prefix
        ):
            samples.append(encoder.encode(conversation, max_length=limit))
            if on_sample is not None:
                on_sample(done + len(samples))
    return samples


def ledger_rows(samples: Sequence[EncodedSample]) -> list[dict[str, Any]]:
    """One row a sample for ``ledger.jsonl``: what became of it, and what it costs."""
    return [
        {
            "index": index,
            "file": str(sample.conversation.origin.file),
            "line": sample.conversation.origin.line,
            "fate": "trained",
            "reason": None,
            "num_tokens": sample.num_tokens,
            "num_vision_tokens": sample.layout.num_vision_tokens,
            "num_supervised_tokens": sample.num_supervised_tokens,
            "num_images": len(sample.images),
            "num_videos": len(sample.videos),
        }
        for index, sample in enumerate(samples)
    ]
