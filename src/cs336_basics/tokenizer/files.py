"""Tokenizer files: vocab.json and merges.txt as GPT-2 wrote them, and special_tokens.json beside them.

GPT-2's files are text, so each byte is written as a printable character: itself where it is printable Latin-1,
else one from U+0100 on, in order of the bytes (a space is `Ġ`). merges.txt has one merge a line, the parts
parted by a space. special_tokens.json, ours, also records the fingerprint and the SHA-256 of the other two, so that
a folder whose files do not belong together, or were changed in a single bit, is refused.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cs336_basics.contracts import describe
from cs336_basics.files import whole_files
from cs336_basics.tokenizer.checks import check_merges, check_special_tokens, check_vocab
from cs336_basics.tokenizer.errors import TokenizerError

VOCAB_FILE: Final = "vocab.json"
MERGES_FILE: Final = "merges.txt"
SPECIAL_TOKENS_FILE: Final = "special_tokens.json"

_HEADER: Final = "#version"
_DIGESTS: Final = "sha256"


def _characters() -> list[str]:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    shifted = iter(range(256, 512))
    return [chr(byte if byte in printable else next(shifted)) for byte in range(256)]


_CHARACTER_OF: Final = _characters()
_BYTE_OF: Final = {character: byte for byte, character in enumerate(_CHARACTER_OF)}


def to_printable(token: bytes) -> str:
    """Write a token's bytes as GPT-2's files do.

    >>> to_printable(b" the"), to_printable("é\\n".encode())
    ('Ġthe', 'Ã©Ċ')
    """
    return "".join([_CHARACTER_OF[byte] for byte in token])


def from_printable(text: str, *, where: str) -> bytes:
    """Read what `to_printable` wrote.

    Raises: TokenizerError on a character that stands for no byte.
    """
    try:
        return bytes([_BYTE_OF[character] for character in text])
    except KeyError as error:
        raise TokenizerError(
            f"{where}: token {text!r} must be in GPT-2's byte-to-unicode writing, where {error.args[0]!r} stands for "
            "no byte"
        ) from None


def read_vocab(path: Path) -> dict[int, bytes]:
    """Read vocab.json: an object of tokens, in GPT-2's writing, and their ids.

    Raises: TokenizerError naming the file and the token or id.
    """
    pairs = _read_json(path)
    if not isinstance(pairs, _Object):
        raise TokenizerError(f"{path} must hold a JSON object of tokens and ids, got {type(pairs).__name__}")
    where = str(path)
    vocab: dict[int, bytes] = {}
    for written, index in pairs:
        token = from_printable(written, where=where)
        if type(index) is not int:
            raise TokenizerError(f"{where}: the id of token {written!r} must be an int, got {describe(index)}")
        if index in vocab:
            raise TokenizerError(f"{where} must give each id once, got {index} for {vocab[index]!r} and {token!r}")
        vocab[index] = token
    check_vocab(vocab, where=where)
    return vocab


def read_merges(path: Path, vocab: Mapping[int, bytes]) -> list[tuple[bytes, bytes]]:
    """Read merges.txt, whose merges must fit the vocabulary; a first line `#version...` is passed over.

    Raises: TokenizerError naming the file and the line or merge.
    """
    lines = _read_text(path).replace("\r\n", "\n").rstrip("\n").split("\n")
    where = str(path)
    merges: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(lines, start=1):
        if number == 1 and (line.startswith(_HEADER) or lines == [""]):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise TokenizerError(f"{where}: line {number} must be two tokens with one space between, got {line[:60]!r}")
        left, right = (from_printable(part, where=f"{where}: line {number}") for part in parts)
        merges.append((left, right))
    return check_merges(merges, {token: index for index, token in vocab.items()}, where=where)


def read_folder(folder: Path) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]], Sequence[str], str]:
    """Read what `write_folder` wrote: vocabulary, merges, special tokens and the recorded fingerprint.

    Raises: TokenizerError naming the file and what is wrong in it.
    """
    path = folder / SPECIAL_TOKENS_FILE
    pairs = _read_json(path)
    names = sorted(name for name, _ in pairs) if isinstance(pairs, _Object) else []
    if [name for name in names if name != _DIGESTS] != ["fingerprint", "special_tokens"] or names.count(_DIGESTS) > 1:
        raise TokenizerError(f"{path} must hold a JSON object of special_tokens and fingerprint, got {describe(pairs)}")
    fields = dict(pairs)
    special_tokens = check_special_tokens(fields["special_tokens"], where=f"{path}: special_tokens")
    if not isinstance(fields["fingerprint"], str):
        raise TokenizerError(f"{path}: fingerprint must be a str, got {describe(fields['fingerprint'])}")
    vocab = read_vocab(folder / VOCAB_FILE)
    return vocab, read_merges(folder / MERGES_FILE, vocab), special_tokens, fields["fingerprint"]


def check_bytes(folder: Path) -> None:
    """Compare the files with the SHA-256 that `write_folder` recorded: what still reads well may have been cut short.

    Line ends count as they were written, since some tools change those of all texts. A folder from before digests
    were recorded has nothing to compare with.

    Raises: TokenizerError naming the file.
    """
    path = folder / SPECIAL_TOKENS_FILE
    text = _read_text(path).replace("\r\n", "\n")
    fields = json.loads(text)
    digests = fields.get(_DIGESTS, {})
    if _DIGESTS in fields and text != _last_text(fields["special_tokens"], fields["fingerprint"], digests):
        raise TokenizerError(f"{path} must be as it was written, got other spaces or signs; save the tokenizer again")
    for name in (VOCAB_FILE, MERGES_FILE) if _DIGESTS in fields else ():
        must = digests.get(name) if isinstance(digests, dict) else None
        found = hashlib.sha256(_read_text(folder / name).replace("\r\n", "\n").encode()).hexdigest()
        if found != must:
            raise TokenizerError(
                f"{folder / name}: sha256 must be {must}, as {SPECIAL_TOKENS_FILE} says, got {found}; one of the two "
                "was changed: save the tokenizer again"
            )


def _last_text(special_tokens: Sequence[str], fingerprint: str, digests: Any) -> str:
    fields = {"special_tokens": special_tokens, "fingerprint": fingerprint, _DIGESTS: digests}
    return json.dumps(fields, indent=2) + "\n"


def write_folder(
    folder: Path,
    vocab: Mapping[int, bytes],
    merges: Iterable[tuple[bytes, bytes]],
    special_tokens: Sequence[str],
    fingerprint: str,
) -> None:
    """Write the three files whole, special_tokens.json with the fingerprint last.

    Raises: TokenizerError if the folder or a file cannot be written.
    """
    tokens = {to_printable(token): index for index, token in vocab.items()}
    lines = ["#version: 0.2", *(f"{to_printable(left)} {to_printable(right)}" for left, right in merges)]
    contents = {
        VOCAB_FILE: json.dumps(tokens, ensure_ascii=False).encode() + b"\n",
        MERGES_FILE: "\n".join(lines).encode() + b"\n",
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents[SPECIAL_TOKENS_FILE] = _last_text(special_tokens, fingerprint, digests).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files(*(folder / name for name in contents)) as files:
            for file, content in zip(files, contents.values(), strict=True):
                file.write(content)
    except OSError as error:
        raise TokenizerError(
            f"Tokenizer.save: folder must be one to write to, got {folder} ({error.strerror})"
        ) from None


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs in order: a dict would hide a key given twice."""


def _read_json(path: Path) -> Any:
    text = _read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} must be JSON, got {error}; is the file whole?") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} must be UTF-8, got {error.reason} at byte offset {error.start}") from None
    except OSError as error:
        raise TokenizerError(f"{path} must be a file to read ({error.strerror})") from None
