"""Sidecars: the format is pinned, every field is checked, and no damage is believed."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cs336_basics.data.errors import DataError
from cs336_basics.data.token_file import open_tokens, read_info, sidecar_path, write_tokens

GOLDEN = """{
  "format_version": 1,
  "dtype": "uint16",
  "count": 3,
  "vocab_size": 300,
  "tokenizer_hash": "caf\\u00e9",
  "sha256": "19a5e5af3391209df858c47f47627aa35283769def6170842f3e643e2b1072ec",
  "sidecar_sha256": "2f0a86ef3f50aaa8f028d98566fb390cb81289beba53411d018c054590c010d0"
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    write_tokens(path, [[1, 2, 259]], vocab_size=300, tokenizer_hash="café")
    return path


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """The fields with the checksum that the documentation promises, computed apart from the library."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return values | {"sidecar_sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_the_format_is_pinned(path: Path) -> None:
    assert path.read_bytes() == bytes([1, 0, 2, 0, 3, 1])
    assert sidecar_path(path).read_text() == GOLDEN
    values = json.loads(GOLDEN)
    del values["sidecar_sha256"]
    assert seal(values) == json.loads(GOLDEN)


def test_layout_and_order_of_the_json_do_not_matter(path: Path) -> None:
    info = read_info(path)
    values = json.loads(sidecar_path(path).read_text())
    reordered = dict(sorted(values.items(), reverse=True))
    sidecar_path(path).write_text(json.dumps(reordered, ensure_ascii=False), encoding="utf-8")
    assert read_info(path) == info


BAD_FIELDS: list[tuple[str, Any, str]] = [
    ("format_version", 2, "format_version must be 1, got 2"),
    ("format_version", "1", "format_version must be 1, got '1'"),
    ("format_version", True, "format_version must be 1, got True"),
    ("format_version", None, "format_version must be 1, got None"),
    ("dtype", "int16", "dtype must be uint16 or uint32, got 'int16'"),
    ("dtype", ["uint16"], r"dtype must be uint16 or uint32, got \['uint16'\]"),
    ("dtype", 16, "dtype must be uint16 or uint32, got 16"),
    ("count", 0, "count must be an integer of 1 or more, got 0"),
    ("count", -3, "count must be an integer of 1 or more, got -3"),
    ("count", 3.0, "count must be an integer of 1 or more, got 3.0"),
    ("count", "3", "count must be an integer of 1 or more, got '3'"),
    ("count", True, "count must be an integer of 1 or more, got True"),
    ("vocab_size", 0, "vocab_size must be an integer of 1 to 4294967296, got 0"),
    ("vocab_size", 2**33, "vocab_size must be an integer of 1 to 4294967296, got 8589934592"),
    ("vocab_size", None, "vocab_size must be an integer of 1 to 4294967296, got None"),
    ("tokenizer_hash", "", "tokenizer_hash must be a text that is not empty, got ''"),
    ("tokenizer_hash", 5, "tokenizer_hash must be a text that is not empty, got 5"),
    ("sha256", "00", "sha256 must be 64 lower-case hexadecimal digits, got '00'"),
    ("sha256", "A" * 64, "sha256 must be 64 lower-case hexadecimal digits, got 'AAAA"),
    ("sha256", "0" * 64 + "\n", "sha256 must be 64 lower-case hexadecimal digits, got '0000"),
    ("sha256", 0, "sha256 must be 64 lower-case hexadecimal digits, got 0"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
def test_bad_fields_are_named_even_with_a_right_checksum(path: Path, field: str, value: Any, message: str) -> None:
    values = json.loads(sidecar_path(path).read_text())
    del values["sidecar_sha256"]
    sidecar_path(path).write_text(json.dumps(seal(values | {field: value})))
    for read in (read_info, open_tokens):
        with pytest.raises(DataError, match=rf"^read_info: \S+a\.bin\.json: {message}.*; write the file again"):
            read(path)


@pytest.mark.parametrize("field", list(json.loads(GOLDEN)))
def test_a_missing_field_is_named(path: Path, field: str) -> None:
    values = json.loads(sidecar_path(path).read_text())
    del values[field]
    sidecar_path(path).write_text(json.dumps(values))
    with pytest.raises(DataError, match=rf"a\.bin\.json: field {field} is missing; write the file again"):
        read_info(path)


def test_an_unknown_field_is_named_but_another_version_is_named_first(path: Path) -> None:
    values = json.loads(sidecar_path(path).read_text())
    sidecar_path(path).write_text(json.dumps(values | {"n_documents": 3}))
    with pytest.raises(DataError, match="field 'n_documents' is unknown; write the file again"):
        read_info(path)
    sidecar_path(path).write_text(json.dumps({"format_version": 2, "n_documents": 3}))
    with pytest.raises(DataError, match="format_version must be 1, got 2; write the file again"):
        read_info(path)


BAD_TEXTS: list[tuple[bytes, str]] = [
    (b"", r"is not whole JSON \(Expecting value"),
    (GOLDEN.encode()[:-20], r"is not whole JSON \(Unterminated string"),
    (GOLDEN.encode() + b"}", r"is not whole JSON \(Extra data"),
    (b"\xff" + GOLDEN.encode(), r"is not whole JSON \('utf-8' codec can't decode byte 0xff"),
    (b"\xef\xbb\xbf" + GOLDEN.encode(), "is not whole JSON"),
    (GOLDEN.encode("utf-16"), "is not whole JSON"),
    (b"[" * 100_000, "is not whole JSON"),
    (b'{"count": ' + b"9" * 5000 + b"}", "is not whole JSON"),
    (b"[]", "the sidecar must be a JSON object, got list"),
    (b"null", "the sidecar must be a JSON object, got NoneType"),
    (b"{}", "field format_version is missing"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_bad_texts_are_named(path: Path, text: bytes, message: str) -> None:
    sidecar_path(path).write_bytes(text)
    with pytest.raises(DataError, match=rf"^read_info: \S+a\.bin\.json:? {message}.*; write the file again"):
        open_tokens(path)


def test_a_folder_in_the_place_of_the_sidecar_is_named(path: Path) -> None:
    sidecar_path(path).unlink()
    sidecar_path(path).mkdir()
    with pytest.raises(DataError, match=r"a\.bin\.json cannot be read \(Is a directory\); write the file again"):
        open_tokens(path)


def flip(raw: bytearray, rng: random.Random) -> None:
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def drop(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw))
    del raw[start : start + rng.randrange(1, 9)]


def cut(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.randrange(len(raw)) :]


def insert(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw) + 1)
    raw[at:at] = rng.choice([b" ", b"0", b"e1", b",", b'"', b"\\", b"{", b"\xc3\xa9", b"null", b"\n", b"\x00"])


def digit(raw: bytearray, rng: random.Random) -> None:
    if places := [i for i, byte in enumerate(raw) if chr(byte) in "0123456789"]:
        raw[rng.choice(places)] = ord(rng.choice("0123456789"))


def repeat(raw: bytearray, rng: random.Random) -> None:
    lines = raw.split(b"\n")
    at = rng.randrange(len(lines))
    lines.insert(rng.randrange(len(lines)), lines[at])
    raw[:] = b"\n".join(lines)


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [flip, drop, cut, insert, digit, repeat]


def test_a_damaged_sidecar_is_equal_or_refused(path: Path) -> None:
    rng = random.Random(336)
    info = read_info(path)
    whole = sidecar_path(path).read_bytes()
    errors = []
    for _ in range(1000):
        raw = bytearray(whole)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            if raw:
                rng.choice(MUTATIONS)(raw, rng)
        sidecar_path(path).unlink()  # a fresh file is quicker than one cut to nothing, which ext4 flushes
        sidecar_path(path).write_bytes(raw)
        try:
            assert read_info(path) == info, raw
            assert open_tokens(path).tolist() == [1, 2, 259]
        except DataError as error:
            errors.append(str(error))
    assert all(str(sidecar_path(path)) in error and "\n" not in error for error in errors)
    assert 500 < len(errors) < 990  # spaces and repeated lines do no harm: both outcomes were seen


def test_where_both_files_are_missing_the_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^read_info: \S+none\.bin is missing; write the file again"):
        read_info(tmp_path / "none.bin")
