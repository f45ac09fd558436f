"""What can be typed after `realm`, and how does an error look?

Nothing that trains is imported before a command runs, so that help is there at once.
"""

import errno
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from realm.cli import (
    analysis_commands,
    ask_command,
    demo_command,
    documents_commands,
    evaluate_commands,
    experiment_commands,
    info_commands,
    plan_command,
    questions_command,
    released_commands,
    run_commands,
    serve_commands,
    spans_commands,
)
from realm.cli.terminal import say
from realm.errors import RealmError

_USER_ERROR, _STOPPED = 2, 130


class Program(TyperGroup):
    """A group of commands whose errors are one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what the user can mend ends with status 2."""
        try:
            return super().invoke(ctx)
        except RealmError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            say("stopped; start again to go on")
            raise typer.Exit(_STOPPED) from None
        except Exception as error:
            if _is_disk_full(error):
                _fail("the disk is full: free some space and start again")
            # A path that cannot be read or written; renaming names the wanted place second.
            file = getattr(error, "filename2", None) or getattr(error, "filename", None)
            if not isinstance(error, OSError) or file is None:
                raise
            _fail(f"{file}: {error.strerror}: give another path, or mend this one")


app = typer.Typer(
    cls=Program,
    name="realm",
    help="Train a retriever and a reader together on your documents, and ask them questions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_commands.add_to(app)
app.add_typer(spans_commands.app, name="spans", rich_help_panel="Single stages")
app.add_typer(evaluate_commands.app, name="evaluate")
experiment_commands.add_to(app)
ask_command.add_to(app)
app.add_typer(documents_commands.app, name="documents")
analysis_commands.add_to(app)
info_commands.add_to(app)
plan_command.add_to(app)
questions_command.add_to(app)
demo_command.add_to(app)
released_commands.add_to(app)
serve_commands.add_to(app)


def main() -> None:
    """The console script."""
    app(prog_name="realm")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"realm {version('realm-lm')}")
        raise typer.Exit


@app.callback()
def _program(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def _fail(message: str) -> None:
    say("error: " + " ".join(message.split()))
    raise typer.Exit(_USER_ERROR) from None


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        # Not every library passes the number on: safetensors gives the text alone.
        is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if is_full or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
