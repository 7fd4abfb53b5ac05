"""The command line. Commands import what they need when they run: ``--help`` is instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline import __version__
from sightline.cli.commands import add_commands
from sightline.cli.inspect_app import inspect_app
from sightline.cli.looking import add_looking
from sightline.cli.options import ConfigPath, MaxRestarts, Overrides, Processes, Sarif

app = typer.Typer(
    name="sightline",
    help="Fine-tune M-RoPE vision-language models and prove that the result is right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sightline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Options before a command."""


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished run in the same place.")
    ] = False,
    processes: Processes = 1,
    max_restarts: MaxRestarts = 0,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The processes are Ray's: local, auto for the cluster of this machine, HOST:PORT.",
        ),
    ] = None,
) -> None:
    """Fine-tune, export, verify in a fresh process, and write the report."""
    from sightline.cli.train import train_command

    raise SystemExit(
        train_command(
            config,
            overrides or [],
            resume=resume,
            overwrite=overwrite,
            processes=processes,
            max_restarts=max_restarts,
            ray=ray,
        )
    )


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    overrides: Overrides = None,
    processes: Processes = 1,
    max_restarts: MaxRestarts = 0,
) -> None:
    """Go on with a run that was ended, from its newest good checkpoint, to the same end."""
    from sightline.cli.resume import resume_command

    raise SystemExit(
        resume_command(run, overrides or [], processes=processes, max_restarts=max_restarts)
    )


@app.command()
def check(
    config: ConfigPath,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 1 where there is a warning.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the ledger; OUTPUT.check without it.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Estimate for this one: H100, RTX-4090, cpu, ...; this machine if none."),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Only this: load the model and prove the plan on one real batch."
        ),
    ] = False,
    sarif: Sarif = None,
) -> None:
    """Read all data and say what is in it, what is wrong, what a run costs, and what fits."""
    from sightline.cli.check import check_command, probe_command

    if probe:
        raise SystemExit(probe_command(config, overrides or [], as_json=as_json, output=output))
    raise SystemExit(
        check_command(
            config,
            overrides or [],
            as_json=as_json,
            strict=strict,
            output=output,
            device=device,
            sarif_file=sarif,
        )
    )


@app.command()
def rehearse(
    config: ConfigPath,
    samples: Annotated[int, typer.Option(help="How many are learned by heart.")] = 4,
    overrides: Overrides = None,
    max_steps: Annotated[int, typer.Option(min=1, help="Most optimizer steps.")] = 300,
    output: Annotated[
        Path | None, typer.Option(help="Its folder; OUTPUT-rehearsal without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Learn a few samples by heart, export, ask afresh, and say which joint does not hold."""
    from sightline.cli.rehearse import rehearse_command

    raise SystemExit(
        rehearse_command(
            config,
            overrides or [],
            num_samples=samples,
            max_steps=max_steps,
            output=output,
            as_json=as_json,
        )
    )


@app.command()
def preview(
    config: ConfigPath,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="The page, an HTML file; OUTPUT.preview.html without it."),
    ] = None,
    samples: Annotated[int, typer.Option(help="How many, evenly over the data.")] = 8,
    sample: Annotated[
        list[int] | None,
        typer.Option(help="This one, by its number in an epoch, from 0; may be repeated."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Show samples as the model will see them, on one page: pixels, boxes, tokens, positions."""
    from sightline.cli.preview import preview_command

    raise SystemExit(
        preview_command(
            config,
            overrides or [],
            output=output,
            num_samples=samples,
            numbers=sample or [],
        )
    )


@app.command("import")
def import_(
    tool: Annotated[str, typer.Argument(help="llamafactory, swift or official.")],
    config: Annotated[Path, typer.Argument(help="Its configuration: a YAML or a shell script.")],
    output: Annotated[Path, typer.Option(help="Where the run configuration goes.")] = Path(
        "run.yaml"
    ),
    datasets: Annotated[
        Path | None, typer.Option(help="official: the Python file with its data_dict.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of that name.")
    ] = False,
) -> None:
    """Turn another tool's configuration into a run.yaml, and say what became of every key."""
    from sightline.cli.import_ import import_command

    raise SystemExit(
        import_command(tool, config, output=output, datasets=datasets, overwrite=overwrite)
    )


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="A run directory, or a folder of runs.")],
    control: Annotated[
        bool, typer.Option("--control", help="Also serve with 1-D positions, to see it fail.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Say what changed since this verification: a run directory."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate.")] = False,
    sarif: Sarif = None,
) -> None:
    """Prove that the exported model is the model that was trained."""
    from sightline.cli.verify import verify_command

    raise SystemExit(
        verify_command(run, control=control, as_json=as_json, sarif_file=sarif, against=against)
    )


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run directory, a model folder, or a hub id.")],
    message: Annotated[
        str | None, typer.Option(help="Ask this and end; a conversation without it.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture for the first question; may be repeated.")
    ] = None,
    video: Annotated[
        list[Path] | None, typer.Option(help="A video for the first question; may be repeated.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Where boxes are drawn, a PNG; PICTURE.boxes.png here without it."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 512,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 is greedy; over 0 answers are drawn.")
    ] = 0.0,
) -> None:
    """Talk with a model about pictures and videos; boxes in its answers are drawn."""
    from sightline.cli.chat import chat_command

    raise SystemExit(
        chat_command(
            model,
            message=message,
            images=image or [],
            videos=video or [],
            boxes=boxes,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )
    )


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write the run's report.html again."""
    from sightline.cli.verify import report_command

    raise SystemExit(report_command(run))


add_commands(app)
add_looking(app)


@app.command()
def config(
    path: Annotated[Path | None, typer.Argument(help="A configuration to check.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Every key with its meaning, default and unit.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Show the resolved configuration, or explain every key."""
    from sightline.cli.config import config_command

    raise SystemExit(config_command(path, explain=explain, overrides=overrides or []))


@app.command()
def tiny(
    family: Annotated[str, typer.Argument(help="qwen2_vl, qwen2_5_vl or qwen3_vl.")],
    directory: Annotated[Path, typer.Argument(help="Where the model folder is made.")],
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
    tied: Annotated[bool, typer.Option("--tied", help="Tie head and token embedding.")] = False,
) -> None:
    """Make a tiny random model of a family, an ordinary Hugging Face folder."""
    from sightline.cli.make import tiny_command

    raise SystemExit(tiny_command(family, directory, seed=seed, tied=tied))


@app.command()
def shapes(
    directory: Annotated[Path, typer.Argument(help="Where the data are made.")],
    images: Annotated[int, typer.Option(help="Pictures with one conversation each.")] = 16,
    videos: Annotated[int, typer.Option(help="Videos with one conversation each.")] = 0,
    multi_image: Annotated[int, typer.Option(help="Conversations of several pictures.")] = 0,
    height: Annotated[int, typer.Option(help="Height, pixels.")] = 224,
    width: Annotated[int, typer.Option(help="Width, pixels.")] = 224,
    frames: Annotated[int, typer.Option(help="Frames of a video.")] = 16,
    fps: Annotated[float, typer.Option(help="Frames a second of a video.")] = 8.0,
    max_shapes: Annotated[int, typer.Option(help="Most shapes in a picture.")] = 3,
    task: Annotated[str, typer.Option(help="detect, describe or mixed.")] = "detect",
    box_space: Annotated[str, typer.Option(help="pixels or thousandths.")] = "pixels",
    layout: Annotated[str, typer.Option(help="official, sharegpt or openai.")] = "official",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Draw synthetic pictures and videos of shapes, with boxes, labels and questions."""
    from sightline.cli.make import shapes_command

    raise SystemExit(
        shapes_command(
            directory,
            num_images=images,
            num_videos=videos,
            multi_image=multi_image,
            height=height,
            width=width,
            num_frames=frames,
            fps=fps,
            max_shapes=max_shapes,
            task=task,
            box_space=box_space,
            layout=layout,
            seed=seed,
        )
    )


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the demonstration is written.")] = Path(
        "runs/demo"
    ),
) -> None:
    """The first experiment: three families, four pictures, loss zero and exact answers."""
    from sightline.cli.demo import demo_command

    raise SystemExit(demo_command(output))


app.add_typer(inspect_app, name="inspect")


@app.command()
def doctor(
    family: Annotated[
        list[str] | None, typer.Option("--family", help="Only this model_type; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every case, as JSON.")] = False,
) -> None:
    """Compare the installed transformers with the position engine, family by family."""
    from sightline.cli.doctor import doctor_command

    raise SystemExit(doctor_command(family or [], as_json=as_json))


@app.command()
def info(
    run: Annotated[Path | None, typer.Argument(help="A run directory, to be told of too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Versions, machine and settings, ready to be pasted into a bug report; no secrets."""
    from sightline.cli.info import info_command

    raise SystemExit(info_command(run, as_json=as_json))


def main() -> None:
    """Entry point of the ``sightline`` command."""
    app()
