"""Single bits turned over and files cut short: of checkpoints, token files, sidecars and tokenizers."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

from cs336_basics.data.errors import DataError
from cs336_basics.data.token_file import open_tokens, sidecar_path, write_tokens
from cs336_basics.tokenizer import Tokenizer, TokenizerError
from cs336_basics.train.checkpoint import load_checkpoint, save_checkpoint
from cs336_basics.train.errors import CheckpointError, CheckpointWarning
from cs336_basics.train.keep import read_newest
from cs336_basics.train.run import RunFolder
from tests.faults.campaigns import Row, times
from tests.faults.naive import plain
from tests.train.tiny import states, tiny_model, trained

Kind = tuple[list[Path], Callable[[], None], type[Exception]]  # files, how they are loaded, the error for damage


def kinds(folder: Path) -> dict[str, Kind]:
    """Each kind of file the library reads, and how."""
    model, optimizer = trained("adamw", steps=1)
    other, other_optimizer = trained("adamw", seed=1)
    checkpoint, tokens, coder = folder / "a.pt", folder / "a.bin", folder / "tokenizer"
    save_checkpoint(model, optimizer, 1, checkpoint)
    write_tokens(tokens, [np.random.default_rng(0).integers(0, 300, 3000)], vocab_size=300, tokenizer_hash="a")
    Tokenizer(dict(enumerate([*(bytes([n]) for n in range(256)), b"ab"])), [(b"a", b"b")], ["<é>"]).save(coder)

    def load_model() -> None:
        load_checkpoint(checkpoint, other, other_optimizer)

    def load_tokenizer() -> None:
        Tokenizer.load(coder)

    def load_tokens() -> None:
        open_tokens(tokens)

    return {
        "checkpoint": ([checkpoint], load_model, CheckpointError),
        "token file": ([tokens], load_tokens, DataError),
        "sidecar": ([sidecar_path(tokens)], load_tokens, DataError),
        "tokenizer": (sorted(coder.iterdir()), load_tokenizer, TokenizerError),
    }


def plain_kinds(folder: Path) -> dict[str, Kind]:
    """The same weights as others keep them, without a checksum: what damage goes unseen there."""
    model, optimizer = trained("adamw", steps=1)
    old, tensors = folder / "plain.pt", folder / "a.safetensors"
    old.write_bytes(plain({**states(model, optimizer), "iteration": 1}))
    safetensors.torch.save_file(dict(model.state_dict()), tensors)

    def load_old() -> None:
        torch.load(old, weights_only=True)

    def load_tensors() -> None:
        tiny_model().load_state_dict(safetensors.torch.load_file(tensors))

    return {"plain .pt": ([old], load_old, Exception), "safetensors": ([tensors], load_tensors, Exception)}


def damaged(kind: str, found: Kind, *, flips: int, cuts: int, seed: int = 0) -> tuple[Row, Row]:
    """Turn a bit over, or cut the end off, so many times; each must be one line, of the right error, with the file."""
    files, load, error = found
    load()
    rows = Row(f"a bit of a {kind} turned over"), Row(f"a {kind} cut short")
    for row, count, is_flip in ((rows[0], flips, True), (rows[1], cuts, False)):
        for rng in times(count, seed=seed):
            path = rng.choice(files)
            with _as_it_was(path) as sound:
                place = rng.randrange(len(sound))
                if is_flip:
                    path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << rng.randrange(8)]) + sound[place + 1 :])
                else:
                    path.write_bytes(sound[:place])
                row.count(_seen(load, error, path, place))
    return rows


def passed_over(work: Path, *, count: int, seed: int = 0) -> Row:
    """Turn over a bit of a run's newest checkpoint: the one before must serve, and a warning name the newest."""
    row, run = Row("a bit of the newest checkpoint turned over, the one before serves"), RunFolder(work / "run")
    run.checkpoints.mkdir(parents=True)
    for step in (1, 2):
        save_checkpoint(*trained("adamw", steps=step), step, run.checkpoint(step))
    for rng in times(count, seed=seed):
        with _as_it_was(run.checkpoint(2)) as sound, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            place = rng.randrange(len(sound))
            changed = sound[:place] + bytes([sound[place] ^ 1 << rng.randrange(8)]) + sound[place + 1 :]
            run.checkpoint(2).write_bytes(changed)
            path, state = read_newest(run)
        told = [str(warning.message) for warning in said if warning.category is CheckpointWarning]
        right = path == run.checkpoint(1) and state["iteration"] == 1 and len(told) == 1 and "step-00000002" in told[0]
        row.count("" if right else f"bit at {place}: {path.name} was read, and {told} was said")
    return row


@contextmanager
def _as_it_was(path: Path) -> Iterator[bytes]:
    before = path.read_bytes()
    try:
        yield before
    finally:
        path.write_bytes(before)


def _seen(load: Callable[[], None], error: type[Exception], path: Path, place: int) -> str:
    """What is wrong with how damage was told; nothing where it is right."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load()
    except error as told:
        text = str(told)
        right = error is Exception or ("\n" not in text and path.name in text.replace(".json", "") + text)
        return "" if right else f"told badly: {text}"
    except Exception as other:
        return f"{path.name} at {place}: {type(other).__name__} from deep inside: {other}"
    return f"{path.name} at {place}: loaded as if nothing were wrong"
