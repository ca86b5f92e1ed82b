"""`cs336 train`: a run folder from token files."""

import os
from pathlib import Path

import torch

from cs336_basics.cli.commands import Train
from cs336_basics.cli.data import identify, open_data, open_tokenizer, tokenizer_of
from cs336_basics.cli.plot import plot_loss
from cs336_basics.cli.progress import bar, say, say_next
from cs336_basics.cli.sample import write_sample
from cs336_basics.cli.tokenizer import holds_tokenizer
from cs336_basics.cli.track import TensorBoardTracker, require_tensorboard
from cs336_basics.config import ConfigError, ModelConfig, RunConfig
from cs336_basics.data.errors import DataError
from cs336_basics.data.sampler import count_starts
from cs336_basics.nn import TransformerLM
from cs336_basics.tokenizer import Tokenizer
from cs336_basics.train.checkpoint import restore, verify_checkpoint
from cs336_basics.train.device import choose_device, describe_device, fastest_dtype, keep_freed_memory
from cs336_basics.train.engine import build_model
from cs336_basics.train.errors import CheckpointError
from cs336_basics.train.keep import read_newest
from cs336_basics.train.loop import train
from cs336_basics.train.run import DATA_PATHS, FREE_FIELDS, RunFolder, require_same_curve, require_same_data, with_field
from cs336_basics.train.stopping import StopAsked

_PATHS = ("train", "valid", "tokenizer")


def run(command: Train) -> None:
    """Train, or go on training, and say what came of it."""
    folder = RunFolder(Path(command.run))
    config = RunConfig(model=command.model, optimizer=command.optimizer, train=command.train, data=command.data)
    finished = command.resume and _is_finished(folder, config)
    metrics = train_run(
        folder,
        config,
        resume=command.resume,
        may_change=frozenset(command.may_change),
        tensorboard=command.tensorboard,
        profile=command.profiled(),
    )
    drawn = plot_loss(folder)
    device = choose_device(config.train.device)
    model, saved = load_model(folder, device)
    tokenizer = tokenizer_of(folder)
    start = "".join(tokenizer.special_tokens[:1]) or "\n"
    path = folder.samples / f"step-{saved.train.steps:08d}.txt"
    write_sample(path, model, tokenizer, prompt=start, seed=saved.train.seed, device=device)
    if finished:
        say(
            f"already finished: the {config.train.steps:,} updates of train.steps are done. The learning rate follows "
            "their number, so it cannot change: to train longer, start a new run with a larger --train.steps"
        )
    if "valid_loss" in metrics:  # not so where a finished run has lost its metrics
        peak = f"the {kind_of_peak(config)} peak"
        say(
            f"validation loss {metrics['valid_loss']:.4f} nats per token after {config.train.steps:,} updates; "
            f"{metrics.get('tokens_per_s', 0):,.0f} tokens/s, {metrics.get('mfu', 0):.0%} of {peak}"
        )
    say(
        f"in {folder.path}: config.toml, tokenizer, metrics.jsonl, checkpoints, samples"
        + (", loss.png" if drawn else "")
    )
    if not drawn:
        say("(no loss.png: pip install 'cs336-basics[plot]')")
    say_next("generate", "--run", folder.path, "--prompt", "Once upon a time")


def kind_of_peak(config: RunConfig) -> str:
    """Whether the FLOP/s that MFU is a part of were measured, or stated in the config."""
    return "measured" if config.train.peak_flops is None else "stated"


def _is_finished(folder: RunFolder, config: RunConfig) -> bool:
    try:
        verify_checkpoint(folder.checkpoint(config.train.steps))
    except CheckpointError:
        return False
    return True


def train_run(
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: bool = False,
    may_change: frozenset[str] = frozenset(),
    tensorboard: bool = False,
    profile: range = range(0),
) -> dict[str, float]:
    """Open the data, build the model, train it, all as the config says; the folder ends as a whole run."""
    tokenizer = open_tokenizer(config.data, resumed=folder if resume else None)
    try:
        train_tokens, valid_tokens = open_data(config.data, tokenizer)
    except DataError as error:
        moved = "; if it was moved, say where to: --data.train PATH (and --data.valid)" if resume else ""
        raise DataError(f"{error}{moved}") from None
    identity = identify(config.data, tokenizer)
    recorded = folder.load_data() if resume else None
    if recorded:
        require_same_data(recorded, identity, may_change=may_change)
    device = choose_device(config.train.device)
    if resume and config.train.dtype == "auto":  # what was faster once; asked again, the clock might say otherwise
        config = with_field(config, "train", dtype=folder.load_config().train.dtype)
    config = _resolve(config, tokenizer, device)
    held_out = "data.valid" if config.data.valid else "data.valid_share"
    for name, tokens in (("data.train", train_tokens), (held_out, valid_tokens)):
        count_starts(name, len(tokens), config.train.batch_size, config.model.context_length)
    if device.type == "cpu":
        keep_freed_memory()
    generator = torch.Generator().manual_seed(config.train.seed)
    model = build_model(config, generator=generator).to(device)
    if tensorboard:
        require_tensorboard()
    if resume:
        free = FREE_FIELDS | may_change | (DATA_PATHS if recorded else frozenset())
        require_same_curve(folder.load_config(), config, free=free)
        with folder.held():
            if not holds_tokenizer(folder.tokenizer):
                tokenizer.save(folder.tokenizer)
            folder.save_data(identity)
    else:
        folder.make()
        with folder.held():
            folder.require_new()
            tokenizer.save(folder.tokenizer)
            folder.create(config, identity)
    parameters = sum(param.numel() for param in model.parameters())
    say(f"{parameters:,} parameters on {describe_device(device)}, {config.train.dtype}")
    trackers = (TensorBoardTracker(folder.path / "tensorboard"),) if tensorboard else ()
    shown: dict[str, str] = {}
    with bar(config.train.steps, unit="step", label="train") as progress, StopAsked(_say_stopping) as stop_asked:

        def show(step: int, metrics: dict[str, float]) -> None:
            progress.update(step - progress.n)
            for name in metrics.keys() & {"train_loss", "valid_loss"}:
                shown[name] = f"{metrics[name]:.3f}"
            progress.set_postfix(shown)
            if "valid_loss" in metrics and progress.disable:
                say(f"  step {step:>6}  validation loss {metrics['valid_loss']:.4f}")

        return train(
            model,
            config,
            train_tokens,
            valid_tokens,
            run=folder,
            device=device,
            # A run that was stopped before its first checkpoint starts again.
            resume=resume and bool(folder.saved_checkpoints()),
            may_change=may_change,
            stop_asked=stop_asked,
            trackers=trackers,
            progress=show,
            profile=profile,
        )


def _say_stopping() -> None:
    # In one call of the system: a print that a signal interrupts may not be begun again.
    os.write(2, b"\nstopping after this step; once more to stop at once\n")


def load_model(folder: RunFolder, device: torch.device) -> tuple[TransformerLM, RunConfig]:
    """The model of a run with its newest good weights."""
    config = folder.load_config()
    model = TransformerLM(config.model)
    path, state = read_newest(folder)
    restore(state, model, name=str(path))
    return model.to(device).eval(), config


def _resolve(config: RunConfig, tokenizer: Tokenizer, device: torch.device) -> RunConfig:
    """Fill in what the data and the machine decide: whole paths, the vocabulary, an `auto` dtype."""
    paths = {name: str(Path(value).resolve()) for name, value in vars(config.data).items() if name in _PATHS and value}
    config = with_field(config, "data", **paths)
    size, asked = tokenizer.vocab_size, config.model.vocab_size
    if asked != size:
        if asked != ModelConfig().vocab_size:
            raise ConfigError(f"model.vocab_size must be the tokenizer's, {size}, got {asked}; leave it out")
        config = with_field(config, "model", vocab_size=size)
    if config.train.dtype == "auto":
        config = with_field(config, "train", dtype=fastest_dtype(device))
    return config
