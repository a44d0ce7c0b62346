"""How every command answers: results on standard output, all else on standard error.

An error is one line ``error[CODE]: what happened`` and one ``how to resolve: …``, with an exit
code that is not 0: 2 for a wrong command line, 130 when interrupted, 1 for everything else.
"""

import json
import sys
import textwrap
from collections.abc import Mapping
from enum import StrEnum
from shutil import get_terminal_size
from typing import Any, NoReturn, Protocol, runtime_checkable

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


@runtime_checkable
class CodedError(Protocol):
    """What all packages' errors have in common."""

    code: str
    what: str
    resolve: str


def fail(code: str, what: str, resolve: str, status: int = EXIT_ERROR) -> NoReturn:
    """Prints an error and exits."""
    print(f"error[{code}]: {_plain(what)}", file=sys.stderr)
    print(f"how to resolve: {_plain(resolve)}", file=sys.stderr)
    raise SystemExit(status)


def _plain(text: str) -> str:
    """One line, without what a terminal would obey: it may quote a file of somebody else's."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def print_result(content: Mapping[str, Any], format: Format) -> None:
    """Prints named values, as aligned lines or as JSON; in a terminal long ones are wrapped."""
    if format is Format.JSON:
        print_json(content)
        return
    width = max(len(name) for name in content)
    for name, value in content.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        line = f"{name.replace('_', ' '):<{width}}  {shown}"
        columns = get_terminal_size().columns if sys.stdout.isatty() else 0
        if len(line) > columns > width + 22:  # narrower, it would be a word a line
            line = textwrap.fill(
                line, columns, subsequent_indent=" " * (width + 2),
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        print(line)


def print_text(text: str, indent: str = "") -> None:
    """Prints running text in lines of 80 letters at most; ``indent`` begins all but the first."""
    print(textwrap.fill(text, 80, subsequent_indent=indent))


def print_json(value: Any) -> None:
    """Prints a result as JSON."""
    print(json.dumps(value, indent=2, sort_keys=True, default=str))
