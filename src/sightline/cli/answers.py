"""What `sightline predict` and `sightline evaluate` share: from a model and data to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sightline.cli.progress import counted
from sightline.config import RunConfig, Source, load_config
from sightline.config.load import config_of
from sightline.config.read import parse_value
from sightline.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerOptions:
    """Options of both commands.

    Attributes:
        data: What is asked, instead of the held-out data of the run: paths, or sources as YAML.
        overrides: Keys of the configuration.
        batch_size: Questions answered at once.
        max_new_tokens: Bound on an answer.
        turns: last or all.
        samples: So many conversations, evenly over all; None is each.
        precision: auto, bf16 or fp32.
        overwrite: Whether predictions that are there give way.
    """

    data: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    batch_size: int = 8
    max_new_tokens: int = 512
    turns: Any = "last"
    samples: int | None = None
    precision: str = "auto"
    overwrite: bool = False

    def data_names(self) -> list[str]:
        """Names of the data, without their folders; none where they are the run's own."""
        sources = [_source(one) for one in self.data]
        titles = [one.get("path") or one.get("hub") or "" for one in sources]
        return ["-".join(Path(str(title)).stem for title in titles)] if titles else []


def refuse_early(model: str, options: AnswerOptions) -> None:
    """Refuse what cannot be asked before the libraries are loaded, which takes seconds.

    Args:
        model: As on the command line.
        options: See there.

    Raises:
        ConfigError: A word that no option takes, or a run without data to ask.
    """
    for option, given, known in (
        ("turns", options.turns, ("last", "all")),
        ("precision", options.precision, ("auto", "bf16", "fp32")),
    ):
        if given not in known:
            *others, last = known
            raise ConfigError(f"--{option} {given}: it is {', '.join(others)} or {last}.")
    # What is no run may be a model that is not there, which says more.
    if (Path(model) / "config.yaml").is_file():
        asked_config(model, Path(), options)


def make_predictions(
    model: str, output: Path, options: AnswerOptions, console: Console, *, base: bool
) -> None:
    """Answer every question of the data, and write the file.

    Args:
        model: A run directory, an adapter's folder, a model's folder, or a hub id.
        output: The file.
        options: See there.
        console: Told what happens.
        base: Whether the base that was trained from is asked.

    Raises:
        SightlineError: See the subclasses. What is answered stays in the file.
    """
    from sightline.evaluation.asking import ask, questions_of
    from sightline.evaluation.predicting import predict
    from sightline.evaluation.prediction_file import PredictionFile, still_open
    from sightline.evaluation.serving import load_answerer, served
    from sightline.model import resolve_model, tiny_folder
    from sightline.preparation import make_encoder, prepare_data
    from sightline.records import collect_versions

    given = resolve_model(model, tiny_folder(model, output))
    what = served(given, base=base)
    config = asked_config(model, output, options)
    checkpoint = what.checkpoint()
    with counted(console, "reading the data") as on_samples:
        data = prepare_data(config, checkpoint, on_samples)
    part = data.train if data.eval is None else data.eval
    samples = part.samples
    questions = questions_of(samples, options.turns, options.samples)
    settings = {
        "model": what.title,
        "weights": what.stamp(),
        "data": data.fingerprint,
        "precision": options.precision,
        "turns": options.turns,
        "samples": options.samples,
        "max_new_tokens": options.max_new_tokens,
    }
    facts = {
        "num_questions": len(questions),
        "batch_size": options.batch_size,
        "samples": part.plan.fate_counts(),
        "versions": collect_versions(),
    }
    file = PredictionFile(output)
    answered = file.begin(settings, facts, overwrite=options.overwrite)
    left = still_open(questions, answered)
    console.print(f"model   {what.title}", soft_wrap=True, markup=False)
    _tell_left_out(part, output, console)
    told = f"data    {len(questions):,} questions"
    console.print(told + (f", {len(questions) - len(left):,} answered already" if answered else ""))
    if left:
        with console.status("loading the weights"):
            answerer = load_answerer(
                what,
                checkpoint,
                precision=options.precision,
                max_new_tokens=options.max_new_tokens,
            )
        encoder, space = make_encoder(checkpoint), checkpoint.family.box_space
        names = [part.sources[number].title for number in part.source_of_file]
        made = predict(
            left,
            lambda one: ask(one, samples, encoder, space=space, sources=names),
            answerer,
            batch_size=options.batch_size,
        )
        with counted(
            console, "answering", total=len(questions), done=len(questions) - len(left)
        ) as on_answers:
            for batch in made:
                file.add(batch)
                on_answers(len(batch))
        file.finish()


def asked_config(model: str, output: Path, options: AnswerOptions) -> RunConfig:
    """The configuration of what is asked, its data in the place of training data.

    Args:
        model: As on the command line.
        output: The file of predictions.
        options: See there.

    Raises:
        ConfigError: There are no data to ask, or a key is wrong.
    """
    run = Path(model) / "config.yaml"
    sources = [_source(one) for one in options.data]
    share = None
    if run.is_file():
        config = load_config(run, options.overrides)
        asked = _with_sources(config, sources) if sources else config.data.eval
        if not sources and config.data.eval_share is not None:
            # What was held out of the training data; only with all of them is it known.
            asked, share = config.data.train, config.data.eval_share
        if not asked:
            raise ConfigError(
                f"{run}: data.eval names no data, and --data is not given: there is nothing to "
                "ask.\nName the data with --data FILE."
            )
    elif not sources:
        raise ConfigError(f"{model} is no run, and --data is not given.\nName it: --data FILE.")
    else:
        values = {"model": model, "data": {"train": sources}, "output": str(output)}
        config = config_of(values, Path.cwd(), options.overrides)
        asked = config.data.train
    # Nothing is cut from a question; what is too long even at fewer pixels is left out, and told.
    data = config.data.model_copy(
        update={
            "train": asked,
            "eval": [],
            "eval_share": share,
            "fit": ["shrink", "drop"],
            "on_bad": "quarantine",
        }
    )
    return config.model_copy(update={"data": data})


def _with_sources(config: RunConfig, sources: list[Any]) -> list[Source]:
    values = {"model": config.model, "data": {"train": sources}, "output": config.output}
    return config_of(values, Path.cwd(), ()).data.train


def _source(given: str) -> Any:
    """A path, or a source as the configuration has it: ``{path: a.jsonl, text_boxes: pixels}``."""
    if not given.lstrip().startswith("{"):
        return {"path": given}
    source = parse_value(given)
    assert isinstance(source, dict), "YAML in braces is a mapping"
    return source


def _tell_left_out(data: Any, output: Path, console: Console) -> None:
    """Say which samples cannot be asked; which and why goes into files beside the predictions."""
    counts = data.plan.fate_counts()
    num_left_out = counts["dropped"] + counts["quarantined"]
    if not num_left_out:
        return
    ledger, quarantine = (
        output.with_name(f"{output.stem}.{name}.jsonl") for name in ("ledger", "quarantine")
    )
    data.write_ledger(ledger, quarantine)
    console.print(
        f"warning: {num_left_out:,} of {data.plan.num_samples:,} samples are not asked: "
        f"{counts['quarantined']:,} cannot be used, {counts['dropped']:,} are too long. "
        f"{ledger} says why.",
        style="yellow",
        soft_wrap=True,
        markup=False,
    )
