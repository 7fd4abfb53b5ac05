"""Options of `sightline predict` and `sightline evaluate`. Imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.options import Overrides

Model = Annotated[
    str, typer.Argument(help="A run directory, a folder of a model or an adapter, or a hub id.")
]
Asked = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help="What is asked, in any form that trains; data.eval of a run if none."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Answers made at once.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Bound on an answer, tokens.")]
Turns = Annotated[str, typer.Option(help="last: the last answer of a conversation; all: each.")]
Samples = Annotated[
    int | None, typer.Option(min=1, help="So many conversations, evenly over all; each if none.")
]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32.")]
OverwriteAnswers = Annotated[
    bool, typer.Option("--overwrite", help="Replace predictions that are there.")
]


def predict(
    model: Model,
    data: Asked = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The file; predictions.jsonl, or evaluation/after.jsonl in a run."),
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Ask the base that the run or adapter was trained from.")
    ] = False,
    batch_size: BatchSize = 8,
    max_new_tokens: MaxNewTokens = 512,
    turns: Turns = "last",
    samples: Samples = None,
    precision: Precision = "auto",
    overrides: Overrides = None,
    overwrite: OverwriteAnswers = False,
) -> None:
    """Answer the questions of some data, in batches; go on where an earlier call ended."""
    from sightline.cli.answers import AnswerOptions
    from sightline.cli.predict import predict_command

    options = AnswerOptions(
        data=tuple(data or ()),
        overrides=tuple(overrides or ()),
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        turns=turns,
        samples=samples,
        precision=precision,
        overwrite=overwrite,
    )
    raise SystemExit(predict_command(model, options, output=output, base=base))


def evaluate(
    what: Annotated[
        str, typer.Argument(help="A file of predictions; or a run or a model, asked first.")
    ],
    against: Annotated[
        Path | None, typer.Option(help="Predictions of before, about the same questions.")
    ] = None,
    before: Annotated[
        bool, typer.Option("--before", help="Also ask the base that the run was trained from.")
    ] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="A measure of all answers; may be repeated. Those that fit if none."),
    ] = None,
    iou: Annotated[float, typer.Option(help="Least overlap of a box that is found.")] = 0.5,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws for the intervals; 0 makes none.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="The record; evaluation.json beside them or in the run.")
    ] = None,
    data: Asked = None,
    batch_size: BatchSize = 8,
    max_new_tokens: MaxNewTokens = 512,
    turns: Turns = "last",
    samples: Samples = None,
    precision: Precision = "auto",
    overrides: Overrides = None,
    overwrite: OverwriteAnswers = False,
) -> None:
    """Measure answers: boxes, points, numbers, words; by source and label, before and after."""
    from sightline.cli.answers import AnswerOptions
    from sightline.cli.evaluate import evaluate_command

    options = AnswerOptions(
        data=tuple(data or ()),
        overrides=tuple(overrides or ()),
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        turns=turns,
        samples=samples,
        precision=precision,
        overwrite=overwrite,
    )
    raise SystemExit(
        evaluate_command(
            what,
            options,
            against=against,
            before=before,
            metrics=metrics or [],
            iou=iou,
            resamples=resamples,
            seed=seed,
            output=output,
        )
    )


def add_commands(app: typer.Typer) -> None:
    """Give the program both commands.

    Args:
        app: The program.
    """
    app.command()(predict)
    app.command()(evaluate)
