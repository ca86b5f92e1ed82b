"""`cs336 tokenizer inspect`: what is in a tokenizer, and how it does on texts, on its own or beside another."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cs336_basics.cli.commands import TokenizerInspect
from cs336_basics.cli.progress import bar, say, say_next, size
from cs336_basics.cli.tokenizer import load_tokenizer, token_file_name
from cs336_basics.config import ConfigError
from cs336_basics.tokenizer import Tokenizer, read_text, text_size

_BEGINNING: Final = 12  # tokens of a text that are shown
_HEX: Final = 8  # bytes of a token that are shown in hexadecimal
_TOKEN: Final = 50  # characters of a token that are shown
_PILE_BYTES: Final = 825e9  # Gao et al. 2020, arXiv:2101.00027


class Encoding(NamedTuple):
    """One text by one tokenizer; seconds of the processor, for a tokenizer that has seen no text before."""

    text: str
    tokenizer: str
    n_bytes: int
    n_tokens: int
    cpu_s: float
    beginning: list[bytes]


def run(command: TokenizerInspect) -> None:
    """Print a tokenizer's size and tokens, how it cuts texts, its compression and speed, and another's beside it."""
    folders = [command.tokenizer, command.against] if command.against else [command.tokenizer]
    named = zip(("tokenizer", "against"), folders, strict=False)
    tokenizers = {folder: load_tokenizer(folder, name=name) for name, folder in named}
    tokenizer = tokenizers[command.tokenizer]
    if (ids := command.id_range()) and ids[0] >= tokenizer.vocab_size:
        raise ConfigError(f"ids must begin below {tokenizer.vocab_size}, the number of tokens, got {command.ids!r}")
    # First, so that a text that cannot be read is refused before anything is printed.
    encodings = [encode(folder, text) for text in command.text for folder in folders]
    for folder in folders:
        _say_summary(folder, tokenizers[folder])
    if command.against:
        common = len({*tokenizer.vocab.values()} & {*tokenizers[command.against].vocab.values()})
        say(f"tokens in both: {common:,}")
    _say_vocabulary(tokenizer, command)
    if encodings:
        _say_encodings(encodings)
        if command.against:
            for ours, theirs in zip(encodings[::2], encodings[1::2], strict=True):
                needs = _compared(ours.n_tokens, theirs.n_tokens, theirs.tokenizer)
                say(f"{ours.text}: {ours.tokenizer} needs {needs}")
        next_file = token_file_name(command.text[0])
        say_next("tokenizer", "encode", command.text[0], "--tokenizer", command.tokenizer, "--out", next_file)
    else:
        against = ("--against", command.against) if command.against else ()
        say_next("tokenizer", "inspect", command.tokenizer, *against, "--text", "FILE")


def encode(folder: str, text: str) -> Encoding:
    """Encode a text file by the tokenizer in a folder, its special tokens taken as such, and measure it."""
    tokenizer, n_bytes, n_tokens = load_tokenizer(folder), text_size(text), 0
    beginning: list[int] = []
    list(tokenizer.encode_blocks([""], n_bytes=n_bytes))  # loads the engine, which is no part of its speed
    start = time.process_time()
    with bar(n_bytes, unit="B", label=f"{folder}: {Path(text).name}") as progress:
        chunks = read_text(text, advance=progress.update)
        for ids in tokenizer.encode_blocks(chunks, n_bytes=n_bytes, allowed_special="all"):
            beginning = beginning or ids[:_BEGINNING].tolist()
            n_tokens += len(ids)
    seconds = time.process_time() - start
    return Encoding(text, folder, n_bytes, n_tokens, seconds, [tokenizer.vocab[index] for index in beginning])


def _say_summary(folder: str, tokenizer: Tokenizer) -> None:
    specials = ", ".join(f"{token} ({tokenizer.special_id(token)})" for token in tokenizer.special_tokens)
    say(f"{folder}: {tokenizer.vocab_size:,} tokens, {len(tokenizer.merges):,} merges, special: {specials or 'none'}")
    say(f"  fingerprint {tokenizer.fingerprint()}")


def _say_vocabulary(tokenizer: Tokenizer, command: TokenizerInspect) -> None:
    """The tokens asked for, by their ids and by their lengths."""
    n = tokenizer.vocab_size
    first, last = min(command.first, n), min(command.last, n)
    start, end = command.id_range() or (0, 0)
    end = min(end, n)
    parts = {
        f"first {first}": range(first),
        f"ids {start} to {end - 1}": range(start, end),
        f"last {last}": range(n - last, n),
        "longest": sorted(range(n), key=lambda index: (-len(tokenizer.vocab[index]), index))[: command.longest],
    }
    for title, indices in parts.items():
        rows = [_token_row(index, tokenizer.vocab[index]) for index in indices]
        if rows:
            say(f"{title}:")
            _say_table(("id", "length", "bytes", "token"), rows, left=(2, 3))


def _token_row(index: int, token: bytes) -> tuple[str, ...]:
    text = shown(token)
    hexadecimal = token[:_HEX].hex(" ") + (" .." if len(token) > _HEX else "")
    return str(index), str(len(token)), hexadecimal, text[:_TOKEN] + (" .." if len(text) > _TOKEN else "")


def _say_encodings(encodings: Sequence[Encoding]) -> None:
    heads = ("text", "size", "tokenizer", "tokens", "bytes/token", "MB/s", "the Pile")
    rows = []
    for each in encodings:
        speed = each.n_bytes / max(each.cpu_s, 1e-6)
        rows.append(
            (
                each.text,
                size(each.n_bytes),
                each.tokenizer,
                f"{each.n_tokens:,}",
                f"{each.n_bytes / each.n_tokens:.3f}",
                f"{speed / 1e6:.1f}",
                duration(_PILE_BYTES / speed),
            )
        )
    say("texts:")
    _say_table(heads, rows, left=(0, 2))
    say("  (MB/s of one core, new to the text; the Pile: the time that its 825 GB would take one core at that speed)")
    for each in encodings:
        say(f"{each.text} by {each.tokenizer} begins: {' '.join(map(shown, each.beginning))}")


def _compared(ours: int, theirs: int, other: str) -> str:
    """How many more or fewer tokens than another's.

    >>> _compared(90, 100, "b"), _compared(100, 100, "b")
    ('10.0% fewer tokens than b', 'as many tokens as b')
    """
    if ours == theirs:
        return f"as many tokens as {other}"
    return f"{abs(ours / theirs - 1):.1%} {'fewer' if ours < theirs else 'more'} tokens than {other}"


def _say_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[int]) -> None:
    """Rows under their heads in columns, those numbered in `left` flush left and the others flush right."""
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        say(f"  {'  '.join(cells)}".rstrip())


def shown(token: bytes) -> str:
    """A token as text in quotes, or as bytes where it is no whole characters.

    >>> shown(" é".encode()), shown(b"\\xc3")
    ("' é'", "b'\\\\xc3'")
    """
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def duration(seconds: float) -> str:
    """Seconds in words, in the largest unit of which there is one or more.

    >>> duration(90), duration(200_000)
    ('1.5 minutes', '2.3 days')
    """
    for unit, factor in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds:.1f} seconds"
