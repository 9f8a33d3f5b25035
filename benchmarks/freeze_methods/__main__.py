"""The command `python -m benchmarks.freeze_methods`."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _check_folder(file: Path | None) -> Path | None:
    """Check that the file's folder exists, before the minute of work rather than after it."""
    if file is not None and not file.parent.is_dir():
        raise typer.BadParameter(f"the folder {file.parent} does not exist.")
    return file


@app.command()
def compare(
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each method, after one to warm up.")] = 7,
    markdown_file: Annotated[
        Path | None,
        typer.Option(
            "--markdown", dir_okay=False, callback=_check_folder, help="Also write the table to this Markdown file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON instead of the table.")] = False,
) -> None:
    """Train a small generator against a speaker encoder, frozen in each way people try, and print what happens to both.

    Takes about a minute on two cores, without network or GPU.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would write about GPUs into the progress bar
    # threads that wait by spinning, as they do by default, stall each other if anything else is running
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from rich.console import Console

    from benchmarks.freeze_methods.measure import measure
    from benchmarks.freeze_methods.methods import METHODS, WithoutTerm
    from benchmarks.freeze_methods.report import console_table, markdown
    from benchmarks.freeze_methods.setting import Setting

    setting = Setting.build()
    *rows, without_term = measure((*METHODS, WithoutTerm), setting, steps)
    if markdown_file is not None:
        markdown_file.write_text(markdown(rows, without_term, setting, steps), encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
        return
    Console().print(console_table(rows, without_term))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.freeze_methods")
