"""What all commands share: where their options start from, what they refuse, how they go on. Never imports torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import tyro

from cs336_basics.config import ConfigError, check, check_types


def option(words: list[str], name: str) -> str:
    """The value given to an option, as `--name VALUE` or `--name=VALUE`; empty where it is not given."""
    for index, word in enumerate(words):
        if word == name and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return ""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all commands share."""

    runner: ClassVar[str]
    lighter: ClassVar[str] = "give it a machine with more, or less to do"  # the mend where memory does not suffice
    names: ClassVar[Mapping[str, str]] = {}  # how errors of the library begin, and the option they are about
    config: str = ""  # TOML file that sets the options below; flags win over it

    def __post_init__(self) -> None:
        check_types(self, skip=tyro.MISSING)

    def validate(self) -> None:
        """Refuse what no type tells, before anything is loaded or written.

        Raises: ConfigError naming the option.
        """
        for field_ in fields(self):
            # Only where it is the default does an empty text mean something.
            emptied = getattr(self, field_.name) == "" and field_.default != ""
            check(self, field_.name, not emptied, "a text of one character or more")

    def goes_on(self) -> tuple[str, ...]:
        """The words of the command that goes on where this one was stopped; none where nothing does."""
        return ()

    @classmethod
    def starting_point(cls, values: dict[str, Any], words: list[str]) -> dict[str, Any]:  # noqa: ARG003  # for commands that look
        """What the flags in `words` are read on top of, given the values of a TOML file."""
        return values


def span(text: str) -> tuple[int, int] | None:
    """The two numbers of a text such as 256:300, the first below the second; None where it is no such text."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    return (int(match[1]), int(match[2])) if match and int(match[1]) < int(match[2]) else None


def check_folder(out: str) -> None:
    """Raise ConfigError unless the file `out` lies in a folder that is there."""
    folder = Path(out).parent
    if not folder.is_dir():
        raise ConfigError(f"out must lie in a folder that exists, got {out}; create {folder}")
