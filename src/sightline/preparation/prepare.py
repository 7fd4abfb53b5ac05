"""Everything about the data of a run that can be known before a weight is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.config import RunConfig, Source
from sightline.data import BoxWriting, EncodedSample, Encoder, Measure
from sightline.data.downloads import Downloads
from sightline.data.fit import FitRules
from sightline.data.holding_out import held_out_samples
from sightline.data.index import SCHEMA_VERSION, IndexedFile, build_index, num_cores
from sightline.data.ledger import LedgerCounts, first_fault, write_ledger
from sightline.data.mixing import choose
from sightline.data.pixels import decode_all
from sightline.data.plan import FitPlan, make_plan
from sightline.data.samples import PlannedSamples
from sightline.data.sources import SourceReader, open_source
from sightline.errors import ConfigError, DataError
from sightline.interop import expand_sources
from sightline.model import Checkpoint

OnSamples = Callable[[int], None]

# Below this, a process more costs more than it reads.
_MIN_BYTES_A_PROCESS = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedData:
    """The data of one part of a run, training or evaluation.

    Attributes:
        sources: The sources, declarations replaced by what they declare.
        files: The index, file by file.
        source_of_file: Number of the source of every file.
        plan: What becomes of every sample.
        chosen: Conversations that an epoch sees; None for each once.
        samples: The conversations of an epoch, encoded when they are asked for.
        held_out: (num_items,) bool. Which conversations do not train; None where none is held out.
    """

    sources: tuple[Source, ...]
    files: tuple[IndexedFile, ...]
    source_of_file: tuple[int, ...]
    plan: FitPlan
    chosen: np.ndarray | None
    samples: PlannedSamples
    held_out: np.ndarray | None = None

    def write_ledger(self, ledger: Path, quarantine: Path) -> LedgerCounts:
        """Write the ledger and the quarantine file."""
        return write_ledger(
            self.files,
            self.plan,
            self.chosen,
            ledger=ledger,
            quarantine=quarantine,
            held_out=self.held_out,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedData:
    """The data of a run.

    Attributes:
        train: Training data.
        eval: Evaluation data; None where none are configured.
        max_length: The limit that they were held to, tokens.
        fingerprint: The same for the same samples, fitted the same way.
    """

    train: PlannedData
    eval: PlannedData | None
    max_length: int
    fingerprint: str


def make_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder of a checkpoint."""
    return Encoder(
        processor=checkpoint.processor,
        tokens=checkpoint.family.tokens,
        preprocessing=checkpoint.preprocessing,
        rule=checkpoint.position_rule,
        boxes=BoxWriting.of(checkpoint.family),
    )


def prepare_data(
    config: RunConfig,
    checkpoint: Checkpoint,
    on_samples: OnSamples | None = None,
    *,
    stop_on_bad: bool | None = None,
) -> PreparedData:
    """Read, measure and fit all samples; what is known from an earlier time is not read again.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        on_samples: Called with the number of samples of each part that is done.
        stop_on_bad: Whether a sample that cannot be used ends the run; None for what
            ``data.on_bad`` says.

    Raises:
        ConfigError: ``max_length`` is over what the model was made for, or a source is wrong.
        DataError: No sample can be used, or one cannot and the run is to stop for it.
    """
    limit = config.data.max_length
    if limit is not None and limit > checkpoint.max_length:
        raise ConfigError(
            f"data.max_length is {limit} tokens, but the model was made for "
            f"{checkpoint.max_length} (max_position_embeddings).\nLower data.max_length."
        )
    limit = limit or checkpoint.max_length
    preparing = _Preparing(config, checkpoint, limit, on_samples)
    stops = config.data.on_bad == "stop" if stop_on_bad is None else stop_on_bad
    train = preparing.part(config.data.train, "data.train", stops=stops)
    held_out = None
    if config.data.eval_share is not None:
        train, held_out = preparing.divided(train, config.data.eval_share)
    if config.data.eval:
        held_out = preparing.part(config.data.eval, "data.eval", stops=stops)
    return PreparedData(
        train=train,
        eval=held_out,
        max_length=limit,
        fingerprint=_fingerprint([train, held_out] if held_out else [train]),
    )


def prepare_sample(config: RunConfig, checkpoint: Checkpoint, index: int) -> EncodedSample:
    """One training sample of a run, as training sees it.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        index: Which conversation of an epoch, from 0.

    Raises:
        ConfigError: There is no such sample.
        DataError: The sample cannot be used.
    """
    samples = prepare_data(config, checkpoint).train.samples
    if not 0 <= index < len(samples):
        raise ConfigError(
            f"--sample {index}: data.train has {len(samples)} samples, 0 to {len(samples) - 1}."
        )
    return samples[index]


def index_folder(config: RunConfig) -> Path:
    """Where the index of a run's data is kept."""
    if config.data.index_folder is not None:
        return Path(config.data.index_folder)
    return Path(config.output).parent / "index"


class _Preparing:
    """The steps from sources to samples, for one run."""

    def __init__(
        self,
        config: RunConfig,
        checkpoint: Checkpoint,
        limit: int,
        on_samples: OnSamples | None,
    ) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._on_samples = on_samples
        self._encoder = make_encoder(checkpoint)
        self._folder = index_folder(config)
        self._downloads = Downloads(
            folder=self._folder / "downloads", max_mib=config.data.max_download_mib
        )
        self._rules = FitRules(
            max_length=limit,
            policies=tuple(config.data.fit),
            vision_share=config.data.vision_share,
        )
        self._encoder_key = _encoder_key(checkpoint)
        self._decodes = config.data.media_check == "decode"

    def part(self, given: Sequence[Source], name: str, *, stops: bool) -> PlannedData:
        sources = expand_sources(given)
        files: list[IndexedFile] = []
        source_of_file: list[int] = []
        for number, source in enumerate(sources):
            for file in self._indexed(source):
                files.append(file)
                source_of_file.append(number)
        plan = self._plan(files)
        if stops or plan.num_items == 0:
            self._refuse(files, plan, name, stops=stops)
        chosen = choose(
            sources,
            self._source_of_items(plan, source_of_file),
            seed=self._config.training.seed,
        )
        if chosen is not None and len(chosen) == 0:
            raise ConfigError(f"{name}: the weights leave no sample.\nRaise weight or num_samples.")
        return PlannedData(
            sources=tuple(sources),
            files=tuple(files),
            source_of_file=tuple(source_of_file),
            plan=plan,
            chosen=chosen,
            samples=PlannedSamples(files, plan, self._encoder, chosen),
        )

    def divided(self, part: PlannedData, share: float) -> tuple[PlannedData, PlannedData]:
        """The training data without a share of it, and that share."""
        seed = self._config.training.seed
        is_held_out = held_out_samples(part.files, share=share, seed=seed)
        of_items = is_held_out[part.plan.item_table().column("sample").to_numpy()]
        source_of_items = self._source_of_items(part.plan, part.source_of_file)
        # Of no source that is trained on.
        chosen = choose(part.sources, np.where(of_items, -1, source_of_items), seed=seed)
        assert chosen is not None, "some are held out"
        if len(chosen) == 0 or not of_items.any():
            what = "the training" if len(chosen) == 0 else "the held-out"
            raise ConfigError(
                f"data.eval_share is {share:g}: no sample is left in {what} data that can be "
                "used.\nChange data.eval_share, or name held-out data in data.eval."
            )
        return (
            self._seen(part, chosen, held_out=of_items),
            self._seen(part, np.flatnonzero(of_items).astype(np.int64)),
        )

    def _seen(
        self, part: PlannedData, chosen: np.ndarray, *, held_out: np.ndarray | None = None
    ) -> PlannedData:
        """A part of which an epoch sees other conversations."""
        samples = PlannedSamples(part.files, part.plan, self._encoder, chosen)
        return dataclasses.replace(part, chosen=chosen, samples=samples, held_out=held_out)

    @staticmethod
    def _source_of_items(plan: FitPlan, source_of_file: Sequence[int]) -> np.ndarray:
        of_file = plan.item_table().column("file").to_numpy()
        return np.asarray(source_of_file)[of_file]

    def _indexed(self, source: Source) -> list[IndexedFile]:
        base = self._folder / self._source_key(source)
        readers = open_source(
            source,
            folder=base,
            structural_tokens=self._checkpoint.family.tokens.structural(),
            downloads=self._downloads,
        )
        return [self._indexed_file(reader, base) for reader in readers]

    def _indexed_file(self, reader: SourceReader, base: Path) -> IndexedFile:
        key = hashlib.blake2b(str(reader.rows.file).encode(), digest_size=6).hexdigest()
        return build_index(
            reader,
            self._encoder,
            base / key,
            num_processes=self._num_processes(reader.rows.file),
            on_rows=self._on_samples,
            check_media=_decode if self._decodes else None,
        )

    def _plan(self, files: Sequence[IndexedFile]) -> FitPlan:
        told = json.dumps(
            [dataclasses.asdict(self._rules), [[str(f.folder), *f.names] for f in files]]
        )
        key = hashlib.blake2b(told.encode("utf-8", "replace"), digest_size=6).hexdigest()
        # Files of the index are named by their content, so the same plan has the same name; it is
        # made again each time, as media may have changed under the same names.
        most = max((self._num_processes(file.reader.rows.file) for file in files), default=1)
        return make_plan(
            files, self._encoder, self._rules, self._folder / f"plan-{key}", num_processes=most
        )

    def _refuse(
        self, files: Sequence[IndexedFile], plan: FitPlan, name: str, *, stops: bool
    ) -> None:
        fault = first_fault(files, plan)
        if fault is not None and stops:
            raise fault
        if plan.num_items == 0:
            why = f"The first: {fault}"
            if fault is None:
                dropped = next(plan.changed_fates())
                why = f"All are dropped. The first: {dropped.reason}.\nRaise data.max_length."
            raise DataError(
                f"{name}: none of {plan.num_samples} samples can be used. {why}",
                code="source.empty",
            )

    def _source_key(self, source: Source) -> str:
        """A name for the index of a source: what it is called, and all that decides its rows."""
        told = source.model_dump(exclude={"weight", "num_samples"} - self._decides(source))
        # Files that were looked at from outside have to be looked at again.
        decides = [self._encoder_key] + ["decoded"] * self._decodes
        text = json.dumps([SCHEMA_VERSION, *decides, told], default=str, sort_keys=True)
        key = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(source.title).name)
        return f"{stem[:40]}-{key}"

    @staticmethod
    def _decides(source: Source) -> set[str]:
        return {"num_samples"} if source.streaming else set()

    def _num_processes(self, file: Path) -> int:
        most = self._config.data.processes or num_cores()
        try:
            size = file.stat().st_size if file.is_file() else 2**62
        except OSError:
            return 1
        return max(1, min(most, size // _MIN_BYTES_A_PROCESS))


def _decode(measure: Measure) -> None:
    decode_all(measure.images, measure.videos, measure.conversation.origin)


def _encoder_key(checkpoint: Checkpoint) -> str:
    """Changes when the checkpoint or the run would measure a sample differently."""
    processor = checkpoint.processor
    tokenizer = processor.tokenizer
    vocabulary = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(tokenizer)
    told = [
        vocabulary,
        str(processor.chat_template or tokenizer.chat_template),
        repr(checkpoint.preprocessing),
        repr(checkpoint.position_rule),
        repr(BoxWriting.of(checkpoint.family)),
    ]
    return hashlib.blake2b("\0".join(told).encode("utf-8", "replace"), digest_size=12).hexdigest()


def _fingerprint(parts: Sequence[PlannedData]) -> str:
    """A short name of what an epoch sees, in its order."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        for batch in part.plan.item_table().to_batches():
            for column in batch.columns:
                digest.update(repr(column.to_numpy(zero_copy_only=False).tolist()).encode())
        if part.chosen is not None:
            digest.update(part.chosen.tobytes())
    return digest.hexdigest()


def data_record(counts: LedgerCounts, data: PreparedData) -> dict[str, Any]:
    """What ``run.json`` says of the data."""
    return {
        **dataclasses.asdict(counts),
        "max_length": data.max_length,
        "fingerprint": data.fingerprint,
    }
