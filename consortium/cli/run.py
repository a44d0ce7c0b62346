"""Runs a Typer app so that nobody ever sees a traceback for what they can resolve themselves."""

from collections.abc import Sequence

import click
import typer

from consortium.cli.output import EXIT_INTERRUPTED, EXIT_USAGE, CodedError, fail


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Runs ``app`` and exits with its code."""
    try:
        status = app(args=arguments, standalone_mode=False)
    except click.exceptions.Abort:
        fail("Interrupted", "stopped", "start again when you are ready", EXIT_INTERRUPTED)
    except click.ClickException as error:
        fail(
            "UsageError",
            error.format_message(),
            "see the command's --help for its options and an example",
            EXIT_USAGE,
        )
    except KeyboardInterrupt:
        fail("Interrupted", "stopped", "start again when you are ready", EXIT_INTERRUPTED)
    except BrokenPipeError:
        raise SystemExit(1) from None
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        fail("FileAccess", f"{error.strerror}{name}", "check the path, its owner and free space")
    except Exception as error:
        if not isinstance(error, CodedError):
            raise
        status = EXIT_INTERRUPTED if error.code == "Interrupted" else 1
        fail(error.code, error.what, error.resolve, status)
    raise SystemExit(status if isinstance(status, int) else 0)


def print_version(wanted: bool) -> None:
    """The callback of ``--version``: both sides of a consortium have to run the same one."""
    if wanted:
        from importlib.metadata import version

        print(version("medpole"))
        raise typer.Exit
