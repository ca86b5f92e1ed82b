"""The sidecar of a token file: what the ids are, in JSON, refused when a single digit is wrong."""

import hashlib
import json
import os
import re
import reprlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from cs336_basics.data.errors import DataError

FORMAT_VERSION: Final = 1
MAX_VOCAB_SIZE: Final = 1 << 32
DTYPES: Final[dict[str, np.dtype[Any]]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
REWRITE: Final = "write the file again (write_tokens, or `cs336 tokenizer encode`)"

_CHECKSUM: Final = "sidecar_sha256"


@dataclass(frozen=True, kw_only=True)
class TokenFileInfo:
    """What a sidecar says of its token file; `tokenizer_hash` is any text that identifies the tokenizer.

    Units: count in tokens; sha256 of the whole .bin, as `sha256sum` prints it.
    Raises: DataError naming the field that cannot be right.
    """

    format_version: int = FORMAT_VERSION
    dtype: str
    count: int
    vocab_size: int
    tokenizer_hash: str
    sha256: str

    def __post_init__(self) -> None:
        version = self.format_version
        # True == 1 and 1.0 == 1, so types are compared before values.
        _field("format_version", version, type(version) is int and version == FORMAT_VERSION, str(FORMAT_VERSION))
        _field("dtype", self.dtype, type(self.dtype) is str and self.dtype in DTYPES, " or ".join(DTYPES))
        _field("count", self.count, type(self.count) is int and self.count >= 1, "an integer of 1 or more")
        check_vocabulary(self.vocab_size, self.tokenizer_hash)
        digest = self.sha256
        is_digest = type(digest) is str and re.fullmatch("[0-9a-f]{64}", digest) is not None
        _field("sha256", digest, is_digest, "64 lower-case hexadecimal digits")


def check_vocabulary(vocab_size: int, tokenizer_hash: str) -> None:
    fits = type(vocab_size) is int and 1 <= vocab_size <= MAX_VOCAB_SIZE
    _field("vocab_size", vocab_size, fits, f"an integer of 1 to {MAX_VOCAB_SIZE}")
    is_text = type(tokenizer_hash) is str and tokenizer_hash != ""
    _field("tokenizer_hash", tokenizer_hash, is_text, "a text that is not empty")


def _field(name: str, value: object, valid: bool, rule: str) -> None:
    if not valid:
        raise DataError(f"{name} must be {rule}, got {reprlib.repr(value)}")


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """The sidecar's path: the token file's with `.json` put after it.

    >>> sidecar_path("runs/train.bin").as_posix()
    'runs/train.bin.json'
    """
    return Path(f"{os.fspath(path)}.json")


def read_info(path: str | os.PathLike[str]) -> TokenFileInfo:
    """Read and check the sidecar of the token file at `path`; the ids are not looked at.

    Raises: DataError naming the file, the field and the mend.
    """
    sidecar = sidecar_path(path)
    try:
        text = sidecar.read_text(encoding="utf-8")
        found = json.loads(text)
    except FileNotFoundError:
        missing = f"{sidecar} is missing beside {os.fspath(path)}" if Path(path).exists() else f"{path} is missing"
        raise DataError(f"read_info: {missing}; {REWRITE}") from None
    except OSError as error:
        raise DataError(f"read_info: {sidecar} cannot be read ({error.strerror}); {REWRITE}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"read_info: {sidecar} is not whole JSON ({error}); {REWRITE}") from None
    try:
        info = _from_json(found)
    except DataError as error:
        raise DataError(f"read_info: {sidecar}: {error}; {REWRITE}") from None
    whole = to_json(info).decode("ascii")
    if text != whole and whole.startswith(text):  # all fields are there, and yet something cut the file
        raise DataError(f"read_info: {sidecar} must be {len(whole)} bytes, got the first {len(text)}; {REWRITE}")
    return info


def to_json(info: TokenFileInfo) -> bytes:
    values = asdict(info)
    return (json.dumps(values | {_CHECKSUM: _checksum(values)}, indent=2) + "\n").encode("ascii")


def _from_json(found: Any) -> TokenFileInfo:
    if not isinstance(found, dict):
        raise DataError(f"the sidecar must be a JSON object, got {type(found).__name__}")
    names = [field.name for field in fields(TokenFileInfo)]
    # Another version may well have other fields: then the version is the thing to say.
    if found.get("format_version", FORMAT_VERSION) == FORMAT_VERSION:
        if missing := [name for name in (*names, _CHECKSUM) if name not in found]:
            raise DataError(f"field {missing[0]} is missing")
        if unknown := [name for name in found if name not in (*names, _CHECKSUM)]:
            raise DataError(f"field {unknown[0]!r} is unknown")
    else:
        _field("format_version", found["format_version"], False, str(FORMAT_VERSION))
    values = {name: found[name] for name in names}
    info = TokenFileInfo(**values)
    _field(_CHECKSUM, found[_CHECKSUM], found[_CHECKSUM] == _checksum(values), "the sha256 of the other fields")
    return info


def _checksum(values: dict[str, Any]) -> str:
    """The sha256 of the fields as JSON without spaces, names sorted, beyond-ASCII characters escaped."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
