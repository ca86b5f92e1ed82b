"""The commands that look at runs or give them away. Never imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from cs336_basics.cli.command import Command, check_folder
from cs336_basics.config import ConfigError, check


@dataclass(frozen=True, kw_only=True)
class RunsList(Command):
    """List the runs below a folder: how far each is, its losses, and who trains in it."""

    runner: ClassVar[str] = "cs336_basics.cli.runs:list_runs"
    folder: Annotated[str, tyro.conf.Positional] = "runs"  # folder that holds run folders

    def validate(self) -> None:
        super().validate()
        if not Path(self.folder).is_dir():
            raise ConfigError(f"folder must be one that is there, got {self.folder}")


@dataclass(frozen=True, kw_only=True)
class RunsShow(Command):
    """Show a run: its config where it is not the default, its losses, its checkpoints and whether they are whole."""

    runner: ClassVar[str] = "cs336_basics.cli.runs:show"
    run: Annotated[str, tyro.conf.Positional]  # run folder, finished or being written


@dataclass(frozen=True, kw_only=True)
class RunsCompare(Command):
    """Compare runs: the fields of their configs that differ, and their losses."""

    runner: ClassVar[str] = "cs336_basics.cli.runs:compare"
    runs: Annotated[tuple[str, ...], tyro.conf.Positional]  # run folders, two or more

    def validate(self) -> None:
        super().validate()
        check(self, "runs", len(self.runs) >= 2, "two or more run folders")


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write the newest good weights of a run as safetensors, for other programs."""

    runner: ClassVar[str] = "cs336_basics.cli.runs:export"
    run: str  # run folder of a trained model
    out: str  # file to write

    def validate(self) -> None:
        super().validate()
        check_folder(self.out)
