"""``sightline preview``: samples as the model will see them, before a weight is loaded."""

from __future__ import annotations

from pathlib import Path

from sightline.cli.console import make_console, quiet_libraries, user_errors


def preview_command(
    path: Path,
    overrides: list[str],
    *,
    output: Path | None,
    num_samples: int,
    numbers: list[int],
) -> int:
    """Write the page of some samples; 0, or 2 where something cannot be read."""
    from sightline.config import load_config

    with user_errors():
        config = load_config(path, overrides)
        quiet_libraries()
        from sightline.model import open_checkpoint, resolve_model, tiny_folder
        from sightline.preparation import prepare_data
        from sightline.preparation.preview import preview_data
        from sightline.report.preview import write_preview, wrong_boxes

        console = make_console()
        page = output or Path(f"{config.output}.preview.html")
        source = resolve_model(config.model, tiny_folder(config.model, Path(config.output)))
        checkpoint = open_checkpoint(source, config.data)
        num_read = num_shown = 0
        with console.status("reading the data") as status:

            def on_samples(count: int) -> None:
                nonlocal num_read
                num_read += count
                status.update(f"reading the data: {num_read:,} samples")

            def on_sample() -> None:
                nonlocal num_shown
                num_shown += 1
                status.update(f"reading pictures: {num_shown:,} samples")

            # Bad samples are listed on the page.
            data = prepare_data(config, checkpoint, on_samples, stop_on_bad=False)
            preview = preview_data(
                config,
                checkpoint,
                data,
                num_samples=num_samples,
                numbers=numbers,
                on_sample=on_sample,
            )
            status.update("writing the page")
            write_preview(preview, page)
        shown = f"{len(preview.samples):,} of {preview.num_conversations:,} samples"
        console.print(f"{page}: {shown}", soft_wrap=True, markup=False)
        wrong = wrong_boxes(preview)
        if wrong:
            number, said = wrong[0]
            num_boxes = sum(len(sample.boxes) for sample in preview.samples)
            console.print(
                f"warning: {len(wrong):,} of {num_boxes:,} boxes are wrong, the first in sample "
                f"{number}: {said}",
                style="yellow",
                markup=False,
            )
    return 0
