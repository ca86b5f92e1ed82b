"""`cs336 runs list | show | compare` and `cs336 export`: runs are looked at without their lock, while they are written.

Whatever a trainer writes takes its place whole, so what is found is right, if perhaps a moment old; what vanishes
meanwhile was pruned.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cs336_basics.cli.commands_runs import Export, RunsCompare, RunsList, RunsShow
from cs336_basics.cli.inputs import require_apart
from cs336_basics.cli.progress import say, size
from cs336_basics.config import ConfigError, RunConfig, to_dict
from cs336_basics.train.run import RunFolder, flatten, step_of
from cs336_basics.train.seal import FORMAT_VERSION, verify_seal
from cs336_basics.train.tracker import read_metrics


@dataclass
class Progress:
    """How far a run is, and its losses: the last and the lowest."""

    step: int = 0
    last: dict[str, float] = field(default_factory=dict)
    lowest: dict[str, tuple[float, int]] = field(default_factory=dict)  # and at which step

    def loss(self, name: str) -> str:
        return f"{self.last[name]:.4f}" if name in self.last else "-"


def progress_of(run: RunFolder) -> Progress:
    """Read a run's metrics as far as they are written.

    Raises: MetricsError for a damaged line.
    """
    found = Progress()
    if not run.metrics.is_file():
        return found
    for line in read_metrics(run.metrics):
        found.step = max(found.step, line["step"])
        numbers = {name: value for name, value in line.items() if value is not None and name != "step"}
        found.last |= numbers
        for name in ("train_loss", "valid_loss"):
            if name in numbers:
                found.lowest[name] = min(
                    found.lowest.get(name, (numbers[name], line["step"])), (numbers[name], line["step"])
                )
    return found


def list_runs(command: RunsList) -> None:
    """A line for each run, by name."""
    runs = [RunFolder(path.parent) for path in sorted(Path(command.folder).glob("*/config.toml"))]
    if not runs:
        say(f"no runs in {command.folder}")
        return
    width = max(len(run.path.name) for run in runs)
    say(f"{'run':{width}}  {'step':>15}  {'train loss':>10}  {'valid loss':>10}  trainer")
    for run in runs:
        try:
            steps = run.load_config().train.steps
            found = progress_of(run)
        except (ValueError, OSError) as error:  # ours, or the system's: one damaged run must not hide the others
            say(f"{run.path.name:{width}}  {error}")
            continue
        where = f"{found.step:,}/{steps:,}"
        losses = "  ".join(f"{found.loss(name):>10}" for name in ("train_loss", "valid_loss"))
        say(f"{run.path.name:{width}}  {where:>15}  {losses}  {run.trainer() or '-'}")


def show(command: RunsShow) -> None:
    """Config, losses and checkpoints of one run."""
    run = RunFolder(Path(command.run))
    config, found = run.load_config(), progress_of(run)
    say(f"{run.path}: step {found.step:,} of {config.train.steps:,}, trained in by {run.trainer() or 'nobody'}")
    default = flatten(to_dict(RunConfig()))
    for name, value in flatten(to_dict(config)).items():
        if default.get(name) != value:
            say(f"  {name} = {value!r}")
    for name, (lowest, step) in found.lowest.items():
        say(f"  {name.replace('_', ' ')} {found.last[name]:.4f}, lowest {lowest:.4f} at step {step:,}")
    for path in run.saved_checkpoints():
        try:
            about = f"{size(path.stat().st_size)}, {_state_of(path)}"
        except OSError:
            continue  # pruned meanwhile
        say(f"  checkpoint at step {step_of(path):,}: {about}")


def _state_of(checkpoint: Path) -> str:
    with checkpoint.open("rb") as file:
        try:
            return "whole" if verify_seal(file) == FORMAT_VERSION else "of version 1, without a seal"
        except ValueError as error:
            return f"damaged: {error}"


def compare(command: RunsCompare) -> None:
    """The fields that differ, a column for each run, and the losses."""
    runs = [RunFolder(Path(name)) for name in command.runs]
    configs = [flatten(to_dict(run.load_config())) for run in runs]
    names = sorted({name for config in configs for name in config})
    rows = [(name, [config.get(name) for config in configs]) for name in names]
    table: list[tuple[str, list[Any]]] = [
        (name, values) for name, values in rows if any(v != values[0] for v in values)
    ]
    found = [progress_of(run) for run in runs]
    table.append(("step", [f"{progress.step:,}" for progress in found]))
    for name in ("train_loss", "valid_loss"):
        table.append((name.replace("_", " "), [progress.loss(name) for progress in found]))
        lowest = [f"{progress.lowest[name][0]:.4f}" if name in progress.lowest else "-" for progress in found]
        table.append((f"lowest {name.replace('_', ' ')}", lowest))
    cells = [["", *(str(run.path) for run in runs)], *([name, *map(str, values)] for name, values in table)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(runs) + 1)]
    for row in cells:
        say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def export(command: Export) -> None:
    """Load the weights and write them."""
    import torch

    from cs336_basics.cli.train import load_model
    from cs336_basics.train.export import export_safetensors

    run, out = RunFolder(Path(command.run)), Path(command.out)
    require_apart(out, [out], {f"the run's {path.name}": path for path in run.path.rglob("*") if path.is_file()})
    if out.exists() and not out.is_file():
        raise ConfigError(f"out must be a file, got {out}")
    model, config = load_model(run, torch.device("cpu"))
    export_safetensors(model, out, config=config.model)
    say(f"{sum(param.numel() for param in model.parameters()):,} parameters, {size(out.stat().st_size)}, in {out}")
