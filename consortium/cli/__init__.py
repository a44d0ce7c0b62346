"""The `consortium` command. Heavy parts are imported by the command that needs them."""

from consortium.cli.main import main

__all__ = ["main"]
