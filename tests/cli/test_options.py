"""Commands whose options are one object."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from coqui_scl_plugin.cli.options import takes_options


@dataclass(frozen=True)
class Options:
    """Options of a command that is made up."""

    files: Annotated[list[Path], typer.Argument(help="Some files.")] = field(default_factory=list)
    name: Annotated[str, typer.Option(help="Its name.")] = "nobody"
    count: Annotated[int, typer.Option("--count", "--number", min=1, help="How many.")] = 3
    tag: Annotated[list[str], typer.Option(help="Several.")] = field(default_factory=list)


@dataclass(frozen=True)
class Required:
    """An option without a default."""

    config: Annotated[str, typer.Option(help="Must be given.")]
    steps: Annotated[int, typer.Option()] = 1


def run(options_class, *arguments):
    """The options that a command gets, and what its invocation came to."""
    app, received = typer.Typer(), []

    def command(ctx: typer.Context, options, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Does nothing."""
        received.append((ctx, options, as_json))

    command.__annotations__["options"] = options_class
    app.command()(takes_options(command))
    result = CliRunner().invoke(app, list(arguments))
    return received, result


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Options()),
        (["a", "b", "--name", "x"], Options(files=[Path("a"), Path("b")], name="x")),
        (["--number", "5", "--tag", "p", "--tag", "q"], Options(count=5, tag=["p", "q"])),
    ],
)
def test_a_command_gets_its_options_as_one_object(arguments, expected):
    ((ctx, options, as_json),), result = run(Options, *arguments)
    assert result.exit_code == 0
    assert ctx.args == []
    assert (options, as_json) == (expected, False)


def test_other_parameters_stay():
    ((_, options, as_json),), _ = run(Options, "--json")
    assert (options, as_json) == (Options(), True)


def test_one_run_does_not_change_the_defaults_of_the_next():
    app, received = typer.Typer(), []

    @app.command()
    @takes_options
    def command(options: Options) -> None:
        received.append(Options(tag=list(options.tag), files=list(options.files)))
        options.tag.append("q")
        options.files.append(Path("r"))

    for _ in range(2):
        assert CliRunner().invoke(app, []).exit_code == 0
    assert received == [Options()] * 2


@pytest.mark.parametrize(
    ("options_class", "arguments", "message"),
    [(Options, ["--count", "0"], "--count"), (Required, [], "--config"), (Options, ["--nmae", "x"], "--nmae")],
)
def test_what_typer_refuses_never_reaches_the_command(options_class, arguments, message):
    received, result = run(options_class, *arguments)
    assert (received, result.exit_code) == ([], 2)
    assert message in result.output


def test_help_is_that_of_the_fields():
    _, result = run(Options, "--help")
    for text in ("Does nothing.", "Some files.", "Its name.", "nobody", "--number", "--tag", "--json"):
        assert text in result.output
