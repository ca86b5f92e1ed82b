"""The tokenizer's adapters against tiktoken, and against a trainer too slow to be wrong."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import regex
import tiktoken

from tests import adapters

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def test_tokenizer_has_tiktokens_ids(shared_data: Path) -> None:
    vocab, merges = _gpt2(shared_data / "gpt2")
    special = "<|endoftext|>"
    reference = tiktoken.Encoding(
        "gpt2",
        pat_str=GPT2,
        mergeable_ranks={token: rank for rank, token in vocab.items() if token != special.encode()},
        special_tokens={special: 50256},
    )
    tokenizer = adapters.get_tokenizer(vocab, merges, [special])
    texts = [
        (shared_data / name).read_text(encoding="utf-8")[:100_000] for name in ("narrative.txt", "multilingual.txt")
    ]
    for text in ["", "Hello, how are you?", "s\u0301 \U0001f643\n\n\n  x", f"a{special}{special} b", *texts]:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text, allowed_special="all")
        assert tokenizer.decode(ids) == text
        assert list(tokenizer.encode_iterable(text.splitlines(keepends=True))) == ids


def test_tokenizer_without_special_tokens_spells_them_out(shared_data: Path) -> None:
    tokenizer = adapters.get_tokenizer(*_gpt2(shared_data / "gpt2"))
    assert len(tokenizer.encode("<|endoftext|>")) > 1


def test_train_bpe(tmp_path: Path) -> None:
    text = "low low low low low lower lower widest widest widest newest newest newest newest newest newest"
    (tmp_path / "a.txt").write_text(text + "<|endoftext|>" + " 東京 東京 the then them", encoding="utf-8")
    vocab, merges = adapters.run_train_bpe(tmp_path / "a.txt", 280, ["<|endoftext|>"])
    assert merges == _naive_bpe([text, " 東京 東京 the then them"], 280 - 257)
    assert len(vocab) == 280
    assert sorted(vocab) == list(range(280))
    assert set(vocab.values()) == {bytes([b]) for b in range(256)} | {b"<|endoftext|>"} | {a + b for a, b in merges}


def _gpt2(folder: Path) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """GPT-2's vocabulary and merges, out of the writing that gives every byte a visible character."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    byte_of = {chr(b): b for b in visible} | {chr(256 + n): b for n, b in enumerate(hidden)}

    def to_bytes(text: str) -> bytes:
        return bytes(byte_of[character] for character in text)

    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return {rank: to_bytes(text) for text, rank in vocab.items()}, [(to_bytes(a), to_bytes(b)) for a, b in pairs]


def _naive_bpe(documents: list[str], n_merges: int) -> list[tuple[bytes, bytes]]:
    """Count all pairs anew for each merge: too slow to be wrong."""
    words = [[bytes([b]) for b in word.encode()] for text in documents for word in regex.findall(GPT2, text)]
    merges = []
    for _ in range(n_merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [word[i] + word[i + 1]]
                i += 1
    return merges
