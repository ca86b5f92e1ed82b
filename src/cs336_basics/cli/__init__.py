"""The command line: `cs336 COMMAND --help`. It owns every heavy optional import."""

from cs336_basics.cli.main import main

__all__ = ["main"]
