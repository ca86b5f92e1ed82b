"""`cs336 demo`: raw text, tokenizer, tokens, training, evaluation, samples, and one screen that sums it up."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from cs336_basics.cli.commands import Demo
from cs336_basics.cli.evaluate import score
from cs336_basics.cli.inputs import is_same
from cs336_basics.cli.plot import plot_loss
from cs336_basics.cli.progress import say, say_next, size
from cs336_basics.cli.sample import write_sample
from cs336_basics.cli.stdlib_text import END, read_documents, split_documents, stdlib_documents
from cs336_basics.cli.tokenizer import train_tokenizer, write_text_tokens
from cs336_basics.cli.train import kind_of_peak, load_model, train_run
from cs336_basics.config import ConfigError, DataConfig, RunConfig
from cs336_basics.data.token_file import open_tokens, read_info
from cs336_basics.files import write_text
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.loss import bits_per_byte
from cs336_basics.tokenizer import Tokenizer
from cs336_basics.train.device import choose_device
from cs336_basics.train.run import RunFolder
from cs336_basics.train.yardsticks import unigram_nats, xz_bits_per_byte

T = TypeVar("T")


@dataclass(frozen=True)
class Sides:
    """A file for learning and a file for testing."""

    train: Path
    valid: Path


def run(command: Demo) -> None:
    """Do the whole job, part by part, saying how long each took."""
    started = time.perf_counter()
    if command.model.vocab_size < 257:
        raise ConfigError(f"model.vocab_size must be at least 257, 256 bytes and {END}, got {command.model.vocab_size}")
    choose_device(command.train.device)
    folder = RunFolder(Path(command.run))
    with _leaving_nothing_but_a_run(folder):
        text, tokens, tokenizer, config, metrics = _make(command, folder)
    drawn = plot_loss(folder)

    device = choose_device(config.train.device)
    model, config = load_model(folder, device)
    scores = _timed("evaluate", lambda: _scores(model, tokenizer, text, tokens, device))
    sample = _timed(
        "generate",
        lambda: write_sample(
            folder.samples / "sample.txt",
            model,
            tokenizer,
            prompt=command.prompt,
            seed=command.train.seed,
            device=device,
        ),
    )

    minutes = (time.perf_counter() - started) / 60
    parameters = sum(param.numel() for param in model.parameters())
    say()
    say(f"{parameters:,} parameters, {config.train.steps:,} updates, {minutes:.1f} minutes in all")
    peak = f"the {kind_of_peak(config)} matrix-multiply peak"
    say(f"{metrics['tokens_per_s']:,.0f} tokens/s, {metrics['mfu']:.0%} of {peak}")
    say(f"held-out text, {size(text.valid.stat().st_size)}, in bits per byte (less is better):")
    for name, value in scores.items():
        say(f"  {value:6.3f}  {name}")
    say("sample:")
    for line in sample.splitlines()[:12]:
        say(f"  | {line[:110]}")
    parts = "config.toml, tokenizer, metrics.jsonl, checkpoints, samples" + (", loss.png" if drawn else "")
    say(f"{folder.path} holds {parts}")
    if not drawn:
        say("(no loss.png: pip install 'cs336-basics[plot]')")
    say_next("generate", "--run", folder.path, "--prompt", command.prompt.strip())


def _make(command: Demo, folder: RunFolder) -> tuple[Sides, Sides, Tokenizer, RunConfig, dict[str, float]]:
    """Text, tokens, tokenizer, and a trained run of them: its config and its last metrics."""
    text = _timed("gather text", lambda: _gather(command, folder.path / "text"))
    sizes = " + ".join(size(path.stat().st_size) for path in (text.train, text.valid))
    say(f"  {sizes} held out, in {text.train.parent}")
    tokenizer = _timed(
        "train tokenizer",
        lambda: train_tokenizer(
            text.train, folder.tokenizer, vocab_size=command.model.vocab_size, special_tokens=(END,)
        ),
    )
    tokens = _timed("encode", lambda: _encode(tokenizer, text, folder.path / "tokens"))
    _require_enough(command, tokens)
    data = DataConfig(train=str(tokens.train), valid=str(tokens.valid), tokenizer=str(folder.tokenizer))
    model_config = dataclasses.replace(command.model, vocab_size=tokenizer.vocab_size)
    config = RunConfig(model=model_config, optimizer=command.optimizer, train=command.train, data=data)
    metrics = _timed("train model", lambda: train_run(folder, config))
    return text, tokens, tokenizer, config, metrics


@contextmanager
def _leaving_nothing_but_a_run(folder: RunFolder) -> Iterator[None]:
    """Where the body fails before the run has its config, take away what it made, and nothing that was there before."""
    made = (folder.tokenizer, folder.checkpoints, folder.samples, folder.lock)
    parts = (folder.path / "text", folder.path / "tokens", *made)

    def found() -> set[Path]:
        return {path for part in parts for path in (part, *part.rglob("*")) if path.exists()}

    before = found()
    missing = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    try:
        yield
    except BaseException:  # Ctrl-C too
        if not folder.config.exists():
            # The deepest first. What is not to be removed was never made, or somebody has put something into it.
            for path in (*sorted(found() - before, reverse=True), *missing):
                with suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()
        raise


def _gather(command: Demo, folder: Path) -> Sides:
    documents = read_documents(command.text) if command.text else stdlib_documents()
    texts = split_documents(documents, valid_share=command.valid_share)
    sides = Sides(folder / "train.txt", folder / "valid.txt")
    if any(is_same(path, command.text) for path in (sides.train, sides.valid)):
        raise ConfigError(f"text must not lie where the demo writes its parts, got {command.text}; name another --run")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip((sides.train, sides.valid), texts, strict=True):
        write_text(path, text)
    return sides


def _encode(tokenizer: Tokenizer, text: Sides, folder: Path) -> Sides:
    folder.mkdir(exist_ok=True)
    sides = Sides(folder / "train.bin", folder / "valid.bin")
    write_text_tokens(tokenizer, text.train, sides.train)
    write_text_tokens(tokenizer, text.valid, sides.valid)
    return sides


def _require_enough(command: Demo, tokens: Sides) -> None:
    """Refuse a text of which either part is no longer than the context, in the words of the demo's options."""
    least = command.model.context_length + 1
    for part, path, mend in (("rest", tokens.train, "lower"), ("held-out part", tokens.valid, "raise")):
        count = read_info(path).count
        if count < least:
            raise ConfigError(
                f"text: its {part} must hold at least {least} tokens, one more than --model.context-length, got "
                f"{count}; lower that, {mend} --valid-share, or give a longer text with --text FILE"
            )


def _scores(
    model: TransformerLM, tokenizer: Tokenizer, text: Sides, tokens: Sides, device: torch.device
) -> dict[str, float]:
    """Bits per byte of the held-out text, by whoever predicts it."""
    train, valid = open_tokens(tokens.train), open_tokens(tokens.valid)
    nats, n_bytes = score(model, tokenizer, valid, device)
    unigram = unigram_nats(train, valid, vocab_size=tokenizer.vocab_size)
    return {
        "this model": bits_per_byte(nats, n_bytes=n_bytes),
        "xz, primed with the training text": xz_bits_per_byte(text.train.read_bytes(), text.valid.read_bytes()),
        "token frequencies of the training text": bits_per_byte(unigram, n_bytes=n_bytes),
    }


def _timed(label: str, work: Callable[[], T]) -> T:
    say(f"{label} ...")
    start = time.perf_counter()
    result = work()
    say(f"{label}: {time.perf_counter() - start:.1f} s")
    return result
