"""`cs336 tokenizer train | encode | decode`."""

import os
import sys
import time
from pathlib import Path

from cs336_basics.cli.commands import TokenizerDecode, TokenizerEncode, TokenizerTrain
from cs336_basics.cli.inputs import is_same, require_apart, require_writable
from cs336_basics.cli.progress import bar, say, say_next, size
from cs336_basics.config import ConfigError
from cs336_basics.data.token_file import TokenFileInfo, open_tokens, read_info, sidecar_path, write_tokens
from cs336_basics.files import whole_file
from cs336_basics.tokenizer import Tokenizer, TokenizerError, encode_file, text_size, train_bpe
from cs336_basics.tokenizer.files import MERGES_FILE, SPECIAL_TOKENS_FILE, VOCAB_FILE
from cs336_basics.tokenizer.shards import KEPT_SHARD_BYTES, forget

_BLOCK = 1 << 16  # ids decoded at a time


def train(command: TokenizerTrain) -> None:
    """Train, save, and say what came of it."""
    start, out = time.perf_counter(), Path(command.out)
    require_apart(out, _files(out), {"the text": Path(command.text)})
    require_writable(out, out)
    tokenizer = train_tokenizer(
        command.text,
        out,
        vocab_size=command.vocab_size,
        special_tokens=command.special_tokens,
        workers=command.workers,
    )
    seconds = time.perf_counter() - start
    say(f"{tokenizer.vocab_size:,} tokens from {size(text_size(command.text))} in {seconds:.1f} s, in {out}")
    if tokenizer.vocab_size < command.vocab_size:
        say(f"(fewer than {command.vocab_size:,}: the text has no more pairs to merge)")
    tokens = token_file_name(command.text)
    say_next("tokenizer", "encode", command.text, "--tokenizer", command.out, "--out", tokens)


def token_file_name(text: str) -> str:
    """A name for the token file of a text, here, that is not the text's own."""
    name = f"{Path(text).stem}.bin"
    return f"{name}.bin" if is_same(name, text) else name


def train_tokenizer(
    text: str | Path, out: Path, *, vocab_size: int, special_tokens: tuple[str, ...], workers: int = 0
) -> Tokenizer:
    """Train a tokenizer on a file with all cores (or `workers` processes) and save it in a folder."""
    keep = _parts(text, out)
    vocab, merges = train_bpe(
        text,
        vocab_size,
        list(special_tokens),
        n_workers=workers or os.cpu_count() or 1,
        keep=keep,
        progress=sys.stderr.isatty(),
    )
    tokenizer = Tokenizer(vocab, merges, list(special_tokens))
    tokenizer.save(out)
    if keep:
        forget(keep)
    return tokenizer


def _parts(text: str | Path, out: Path) -> Path | None:
    """The folder beside `out` where a run on a large text keeps what is finished, for a run after it was ended."""
    return Path(f"{out.resolve()}.parts") if text_size(text) > KEPT_SHARD_BYTES else None


def _files(folder: str | Path) -> list[Path]:
    return [Path(folder, name) for name in (VOCAB_FILE, MERGES_FILE, SPECIAL_TOKENS_FILE)]


def holds_tokenizer(folder: str | Path) -> bool:
    """Whether any file of a tokenizer is in the folder."""
    return any(path.exists() for path in _files(folder))


def load_tokenizer(
    folder: str | Path, *, name: str = "tokenizer", mend: str = "make one with cs336 tokenizer train"
) -> Tokenizer:
    """The tokenizer in a folder; errors about a folder without one begin with `name` and end with `mend`.

    Raises: TokenizerError for a folder that is not there or holds none, or a damaged one.
    """
    if not holds_tokenizer(folder):
        raise TokenizerError(f"{name}: {folder} holds no tokenizer; {mend}")
    return Tokenizer.load(folder)


def _owned(folder: str | Path) -> dict[str, Path]:
    return {f"the tokenizer's {path.name}": path for path in _files(folder)}


def encode(command: TokenizerEncode) -> None:
    """Stream a text through the tokenizer into a token file."""
    reads = {"the text": Path(command.text)} | _owned(command.tokenizer)
    require_apart(command.out, [Path(command.out), sidecar_path(command.out)], reads)
    require_writable(command.out, Path(command.out).parent)
    tokenizer = load_tokenizer(command.tokenizer)
    start = time.perf_counter()
    info = write_text_tokens(tokenizer, command.text, Path(command.out), workers=command.workers)
    seconds = time.perf_counter() - start
    n_bytes = text_size(command.text)
    say(
        f"{info.count:,} tokens from {size(n_bytes)} ({n_bytes / info.count:.2f} bytes a token) in {seconds:.1f} s, "
        f"in {command.out}"
    )
    say_next("train", "--run", "runs/mine", "--data.train", command.out, "--data.tokenizer", command.tokenizer)


def write_text_tokens(tokenizer: Tokenizer, text: str | Path, out: Path, *, workers: int = 0) -> TokenFileInfo:
    """Encode a text file, its special tokens taken as such, as a token file; memory does not follow its size."""
    keep = _parts(text, out)
    with bar(text_size(text), unit="B", label=f"encode {Path(text).name}") as progress:
        ids = encode_file(tokenizer, text, n_workers=workers or os.cpu_count() or 1, keep=keep, advance=progress.update)
        info = write_tokens(out, ids, vocab_size=tokenizer.vocab_size, tokenizer_hash=tokenizer.fingerprint())
    if keep:
        forget(keep)
    return info


def decode(command: TokenizerDecode) -> None:
    """Write the exact bytes of a token file."""
    reads = {"the token file": Path(command.tokens), "its sidecar": sidecar_path(command.tokens)}
    require_apart(command.out, [Path(command.out)], reads | _owned(command.tokenizer))
    tokenizer = load_tokenizer(command.tokenizer)
    require_same_tokenizer(tokenizer, command.tokenizer, command.tokens)
    tokens = open_tokens(command.tokens)
    blocks = (tokenizer.decode_bytes(tokens[at : at + _BLOCK].tolist()) for at in range(0, len(tokens), _BLOCK))
    if not command.out:
        for block in blocks:
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    out = Path(command.out)
    try:
        with whole_file(out) as file:
            file.writelines(blocks)
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be written ({error.strerror}); choose another place") from None
    say(f"{len(tokens):,} tokens, {size(out.stat().st_size)}, in {out}")
    say_next("tokenizer", "inspect", command.tokenizer, "--text", out)


def require_same_tokenizer(tokenizer: Tokenizer, folder: str | Path, tokens: str | Path) -> None:
    """Refuse a token file that another tokenizer made: its ids would mean other words.

    Raises: TokenizerError naming both.
    """
    if read_info(tokens).tokenizer_hash != tokenizer.fingerprint():
        raise TokenizerError(
            f"tokenizer: {folder} did not make {tokens}; give the one that did, or encode the text anew"
        )
