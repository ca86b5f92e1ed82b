"""Files on disk: round trips, GPT-2's own files, and one clear error for whatever is wrong in them."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import Tokenizer, TokenizerError
from cs336_basics.tokenizer.files import from_printable, to_printable

END = "<|endoftext|>"
NAMES = ["merges.txt", "special_tokens.json", "vocab.json"]

Refused = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tokenizer of 262 tokens; one special token has a space, a line break and a letter beyond ASCII."""
    vocab = dict(enumerate([*(bytes([byte]) for byte in range(256)), b" a", b" at", "é".encode(), b"\n\n"]))
    merges = [(b" ", b"a"), (b" a", b"t"), (b"\xc3", b"\xa9"), (b"\n", b"\n")]
    Tokenizer(vocab, merges, [END, "<é \n>"]).save(tmp_path / "saved" / "here")
    return tmp_path / "saved" / "here"


@given(st.binary(max_size=20))
@settings(deadline=None, max_examples=50)
def test_printable_writing_comes_back(token: bytes) -> None:
    written = to_printable(token)
    assert from_printable(written, where="here") == token
    assert len(written) == len(token)
    assert written.isprintable() or not written
    assert " " not in written


def test_a_saved_tokenizer_comes_back(folder: Path, small: Tokenizer, tmp_path: Path, prose: str) -> None:
    loaded = Tokenizer.load(folder)
    text = f"Sat at é\n\n<é \n>{END}"
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert loaded.special_tokens == (END, "<é \n>")
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.encode(text)[-2:] == [261, 260]
    small.save(tmp_path)
    again = Tokenizer.load(str(tmp_path))
    assert (again.vocab, again.merges, again.special_tokens) == (small.vocab, small.merges, small.special_tokens)
    assert again.fingerprint() == small.fingerprint()
    assert again.encode(prose) == small.encode(prose)


def test_from_files_reads_what_save_wrote(folder: Path) -> None:
    loaded = Tokenizer.load(folder)
    again = Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt", list(loaded.special_tokens))
    assert again.fingerprint() == loaded.fingerprint()
    plain = Tokenizer.from_files(str(folder / "vocab.json"), str(folder / "merges.txt"))
    assert plain.special_tokens == ()
    assert plain.vocab == loaded.vocab


def test_gpt2s_files(gpt2: Tokenizer, tmp_path: Path, shared_data: Path) -> None:
    assert gpt2.vocab_size == 50_257
    assert gpt2.special_id(END) == 50_256
    assert len(gpt2.merges) == 50_000
    gpt2.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint() == gpt2.fingerprint()
    ours = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert ours == json.loads((shared_data / "gpt2" / "vocab.json").read_text(encoding="utf-8"))
    version, *merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert version == "#version: 0.2"
    assert "\n".join(merges) in (shared_data / "gpt2" / "merges.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("rewrite", [lambda m: m.removeprefix("#version: 0.2\n"), lambda m: m.replace("\n", "\r\n")])
def test_merges_without_header_and_with_other_line_ends(rewrite: Callable[[str], str], folder: Path) -> None:
    path = folder / "merges.txt"
    forget_digests(folder)
    path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8", newline="")
    assert len(Tokenizer.load(folder).merges) == 4


def forget_digests(folder: Path) -> None:
    """Make the folder one as it was saved before digests were."""
    path = folder / "special_tokens.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(fields.pop("sha256")) == ["merges.txt", "vocab.json"]
    path.write_text(json.dumps(fields), encoding="utf-8")


def test_line_ends_are_nothing_to_complain_of(folder: Path) -> None:
    """git, for one, may change those of every text on Windows."""
    for name in NAMES:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content.replace(b"\n", b"\r\n"))
    assert len(Tokenizer.load(folder).merges) == 4


@pytest.mark.parametrize("name", NAMES)
def test_what_reads_well_but_is_not_what_was_written_is_refused(name: str, folder: Path, refused: Refused) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    refused(lambda: Tokenizer.load(folder), name, "save the tokenizer again")


def test_an_empty_merge_list_is_one(tmp_path: Path) -> None:
    Tokenizer({byte: bytes([byte]) for byte in range(256)}, []).save(tmp_path)
    assert Tokenizer.load(tmp_path).merges == []
    forget_digests(tmp_path)
    (tmp_path / "merges.txt").write_text("", encoding="utf-8")
    assert Tokenizer.load(tmp_path).merges == []


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("vocab.json", b'{"', b'{{"', ["must be JSON", "is the file whole?"]),
        ("vocab.json", b'"a": 97', b'"a": \xff', ["UTF-8", "byte offset"]),
        ("vocab.json", b'"a": 97', b'"a": "97"', ["id of token 'a'", "int", "'97'"]),
        ("vocab.json", b'"a": 97', b'"a": true', ["id of token 'a'", "int", "bool"]),
        ("vocab.json", b'"a": 97', b'"a": -97', ["an id", "0 or more", "-97"]),
        ("vocab.json", b'"a": 97', b'"a": [97]', ["id of token 'a'"]),
        ("vocab.json", b'"a": 97', b'"a": ' + b"9" * 5000, ["JSON"]),
        ("vocab.json", b'"a": 97', b'"a": 98', ["each id once", "98"]),
        ("vocab.json", b'"a": 97', b'"b": 97', ["twice", "b'b'"]),
        ("vocab.json", b'"a": 97', b'"a": 970', ["without gaps", "id 97 is missing"]),
        ("vocab.json", b'"a": 97', b'"aa": 97', ["256 single bytes", "b'a' is missing"]),
        ("vocab.json", b'"a": 97', b'"": 97', ["id 97", "one or more"]),
        ("vocab.json", b'"a": 97', b'"a b": 97', ["'a b'", "' ' stands for no byte", "byte-to-unicode"]),
        ("vocab.json", b'"a": 97', b'"\\ud800": 97', ["byte-to-unicode"]),
        ("merges.txt", "Ġ a\n".encode(), b"", ["belong together", "fingerprint", "save the tokenizer again"]),
        ("merges.txt", "Ġa t\n".encode(), "Ġ at\n".encode(), ["merge 1", "b'at' is not in it", "belong together"]),
        ("merges.txt", "Ġ a\n".encode(), b"b a\n", ["merge 0", "b'ba' is not in it"]),
        ("merges.txt", "Ġ a\n".encode(), "Ġ  a\n".encode(), ["line 2", "one space"]),
        ("merges.txt", "Ġ a\n".encode(), b"\n", ["line 2", "two tokens"]),
        ("merges.txt", "Ġ a\n".encode(), "Ġ a\nĠ a\n".encode(), ["twice", "0 and 1"]),
        ("merges.txt", "Ġ a\n".encode(), "Ġ あ\n".encode(), ["'あ'", "byte-to-unicode"]),
        ("merges.txt", "Ġ a\n".encode(), b"\xc4 a\n", ["UTF-8", "byte offset"]),
        ("special_tokens.json", b'"fingerprint"', b'"finger"', ["special_tokens and fingerprint"]),
        ("special_tokens.json", b'"<|endoftext|>"', b"7", ["special_tokens[0]", "str", "int 7"]),
        ("special_tokens.json", b'"<|endoftext|>"', b'""', ["special_tokens[0]", "empty"]),
        ("special_tokens.json", b'"<|endoftext|>"', b'"<|end|>"', ["belong together", "fingerprint"]),
    ],
)
def test_a_damaged_file_is_named(
    name: str, old: bytes, new: bytes, words: list[str], folder: Path, refused: Refused
) -> None:
    path = folder / name
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    refused(lambda: Tokenizer.load(folder), name, *words)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_or_foreign_file_is_named(name: str, folder: Path, refused: Refused) -> None:
    (folder / name).write_bytes(b"[" * 100_000)
    refused(lambda: Tokenizer.load(folder), name)
    (folder / name).write_bytes(b"[1]\n")
    refused(lambda: Tokenizer.load(folder), name)
    (folder / name).unlink()
    refused(lambda: Tokenizer.load(folder), str(folder / name), "No such file")
    (folder / name).mkdir()
    refused(lambda: Tokenizer.load(folder), str(folder / name), "directory")


def test_a_mutated_file_loads_right_or_is_refused(folder: Path) -> None:
    rng = random.Random(0)
    right = Tokenizer.load(folder).fingerprint()
    outcomes = {True: 0, False: 0}
    for _ in range(200):
        path = folder / rng.choice(NAMES)
        content = path.read_bytes()
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
        path.write_bytes(damaged if rng.random() < 0.9 else damaged[: rng.randrange(len(damaged))])
        try:
            same = Tokenizer.load(folder).fingerprint() == right
            assert same
            outcomes[True] += 1
        except TokenizerError:
            outcomes[False] += 1
        path.write_bytes(content)
    assert outcomes[False] > 100


def test_a_save_that_fails_leaves_the_old_tokenizer(
    folder: Path, small: Tokenizer, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    before = {name: (folder / name).read_bytes() for name in NAMES}

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    refused(lambda: small.save(folder), "Tokenizer.save: folder", str(folder), "No space left")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_save_cut_short_between_files_is_noticed(folder: Path, small: Tokenizer, refused: Refused) -> None:
    """New vocabulary, old merges: each file is whole, but together they are no tokenizer."""
    (folder / "vocab.json").write_text(
        json.dumps({to_printable(token): index for index, token in small.vocab.items()}), encoding="utf-8"
    )
    refused(lambda: Tokenizer.load(folder), "merges.txt")
    small.save(folder)
    (folder / "merges.txt").write_text("", encoding="utf-8")
    refused(lambda: Tokenizer.load(folder), "special_tokens.json", "fingerprint", "save the tokenizer again")


def test_bad_places(folder: Path, small: Tokenizer, refused: Refused) -> None:
    refused(lambda: small.save(folder / "vocab.json"), "Tokenizer.save: folder", "vocab.json")
    refused(lambda: small.save(None), "Tokenizer.save: folder", "path")  # type: ignore[arg-type]  # what must be refused
    refused(lambda: Tokenizer.load(3), "Tokenizer.load: folder", "path")  # type: ignore[arg-type]  # what must be refused
    refused(lambda: Tokenizer.load(folder / "none"), "none", "No such file")
    refused(lambda: Tokenizer.from_files(None, "x"), "Tokenizer.from_files: vocab_path")  # type: ignore[arg-type]  # what must be refused
    refused(
        lambda: Tokenizer.from_files(folder / "vocab.json", 3),  # type: ignore[arg-type]  # what must be refused
        "Tokenizer.from_files: merges_path",
    )
