"""A thousand damaged files: each loads right or is refused by one TokenizerError, and no answer is wrong."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cs336_basics.tokenizer import Tokenizer, TokenizerError
from tests.tokenizer.test_merge import naive_merge

END = "<|endoftext|>"
NAMES = ["merges.txt", "special_tokens.json", "vocab.json"]
TEXT = " at attat é\n\n\n tta éa"
TOKENS = [b" a", b" at", "é".encode(), b"\n\n", b"tt", b"at", b"tat"]
MERGES = [(b" ", b"a"), (b" a", b"t"), (b"\xc3", b"\xa9"), (b"\n", b"\n"), (b"t", b"t"), (b"a", b"t"), (b"t", b"at")]
SEEDS = range(1000)  # each damages a folder, and then files as another library would write them

Mutation = Callable[[random.Random, bytes], bytes]


def some_bytes(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(damaged) + 1)
        damaged[place : place + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    return bytes(damaged)


def cut_short(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def a_part_elsewhere(rng: random.Random, content: bytes) -> bytes:
    start, place = rng.randrange(len(content)), rng.randrange(len(content))
    part = content[start : start + rng.randint(1, 40)]
    return content[:place] + part + content[place + rng.choice([0, len(part)]) :]


def likely_bytes(rng: random.Random, content: bytes) -> bytes:
    """What the formats themselves are made of, where it does the most harm."""
    place = rng.randrange(len(content))
    signs = [bytes([byte]) for byte in b' \n\r\t",:{}[]0159-.eE\\aqtn'] + ["Ġ".encode(), "Ċ".encode()]
    words = [b"\r\n", b"#version", b"null", b"NaN", b"1e2", b"true", b"\\u0061", b"\\ud800", b"\xef\xbb\xbf", b"\x00"]
    word = rng.choice(signs + words)
    return content[:place] + word + content[place + rng.choice([0, 1, len(word)]) :]


def lines_in_another_order(rng: random.Random, content: bytes) -> bytes:
    """Lines, or the items of a list, exchanged, doubled or left out."""
    mark = b"\n" if content.count(b"\n") > 2 and rng.random() < 0.8 else b", "
    parts = content.split(mark)
    first, second = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[first], parts[second] = rng.choice([(parts[second], parts[first])] * 2 + [(parts[second], parts[second])])
    if rng.random() < 0.2:
        del parts[first]
    return mark.join(parts)


MUTATIONS: list[Mutation] = [some_bytes, cut_short, a_part_elsewhere, likely_bytes, lines_in_another_order]


def naive_vocab(content: bytes) -> dict[int, bytes] | None:
    """The vocabulary in a file, read as the format is defined; None where it is none."""
    try:
        pairs: Any = json.loads(content.decode(), object_pairs_hook=lambda pairs: {"pairs": pairs})["pairs"]
        tokens = [(index, bytes(map(BYTE_OF.__getitem__, written))) for written, index in pairs]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    vocab = dict(tokens) if all(type(index) is int for index, _ in tokens) else {}
    whole = len(vocab) == len({token for _, token in tokens}) == len(tokens) and set(vocab) == set(range(len(tokens)))
    return (
        vocab if whole and b"" not in vocab.values() and {bytes([b]) for b in range(256)} <= {*vocab.values()} else None
    )


def naive_merges(content: bytes, vocab: dict[int, bytes]) -> list[tuple[bytes, bytes]] | None:
    """The merges in a file, read as the format is defined; None where they are none of this vocabulary."""
    try:
        lines = content.decode().replace("\r\n", "\n").split("\n")
        while lines and not lines[-1]:
            lines.pop()
        if lines and lines[0].startswith("#version"):
            lines = lines[1:]
        merges = [tuple(bytes(map(BYTE_OF.__getitem__, part)) for part in line.split(" ")) for line in lines]
        known = {*vocab.values()}
        fit = all(left in known and right in known and left + right in known for left, right in merges)
    except (ValueError, KeyError):
        return None
    return [(left, right) for left, right in merges] if fit and len(set(merges)) == len(merges) else None


VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_OF = {chr(byte): byte for byte in VISIBLE} | {
    chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in VISIBLE)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 265 tokens; one special token has a space, a line break and a letter beyond ASCII."""
    folder = tmp_path_factory.mktemp("saved")
    tokens = [*(bytes([byte]) for byte in range(256)), *TOKENS]
    Tokenizer(dict(enumerate(tokens)), MERGES, [END, "<é \n>"]).save(folder)
    return folder


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The content after one mutation, or two, that changed it."""
    result = content
    while result == content:
        for _ in range(rng.choice([1, 1, 2])):
            result = rng.choice(MUTATIONS)(rng, result) if result else content
    return result


def test_a_damaged_folder_is_the_same_tokenizer_or_refused(folder: Path, tmp_path: Path) -> None:
    right = Tokenizer.load(folder)
    contents = {name: (folder / name).read_bytes() for name in NAMES}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    refused, start = 0, time.process_time()
    for seed in SEEDS:
        rng = random.Random(seed)
        name = NAMES[seed % 3]
        (tmp_path / name).write_bytes(damaged(rng, contents[name]))
        try:
            found = Tokenizer.load(tmp_path)
        except TokenizerError as error:
            message = str(error)
            assert "\n" not in message, seed
            refused += 1
        else:
            assert (found.vocab, found.merges) == (right.vocab, right.merges), seed
            assert {*found.special_tokens} == {*right.special_tokens}, seed
        (tmp_path / name).write_bytes(contents[name])
    assert refused > len(SEEDS) * 0.8
    assert time.process_time() - start < 20  # about 1 s


def test_damaged_files_without_a_fingerprint_are_what_they_say_or_refused(folder: Path, tmp_path: Path) -> None:
    """GPT-2's formats hold no checksum: what is still a tokenizer is one, and it must be the one that is written."""
    contents = {name: (folder / name).read_bytes() for name in ("merges.txt", "vocab.json")}
    loaded, differ, start = 0, 0, time.process_time()
    for seed in SEEDS:
        rng = random.Random(seed + len(SEEDS))
        name = ("merges.txt", "vocab.json")[seed % 2]
        written = contents | {name: damaged(rng, contents[name])}
        for name, content in written.items():
            (tmp_path / name).write_bytes(content)
        vocab = naive_vocab(written["vocab.json"])
        merges = None if vocab is None else naive_merges(written["merges.txt"], vocab)
        try:
            found = Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt", [END])
        except TokenizerError as error:
            message = str(error)
            assert merges is None, (seed, message)
            assert "\n" not in message, seed
            continue
        assert vocab is not None, seed
        assert merges is not None, seed
        if END.encode() not in vocab.values():
            vocab[len(vocab)] = END.encode()  # as any special token that is new
        assert (found.vocab, found.merges) == (vocab, merges), seed
        loaded, differ = loaded + 1, differ + (merges != MERGES)
        pretokens = [" at", " attat", " é", "\n\n", "\n", " tta", " éa"]
        assert "".join(pretokens) == TEXT
        expected = [
            token for pretoken in pretokens for token in naive_merge([bytes([b]) for b in pretoken.encode()], merges)
        ]
        assert [found.vocab[index] for index in found.encode(TEXT)] == expected, seed
        assert found.decode(found.encode(TEXT)) == TEXT, seed
    assert differ > 20, "some mutations are another tokenizer"
    assert 50 < loaded < len(SEEDS) * 0.8
    assert time.process_time() - start < 20  # about 1 s
