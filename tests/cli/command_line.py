"""Runs the command line inside the process of the tests."""

from pathlib import Path

from typer.testing import CliRunner, Result

from realm.cli.main import app


def realm(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """Run a command; an exception that is no exit fails the test."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result) -> str:
    """The one line of a command that ended with status 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == lines[0]
    return lines[0]
