"""Training: the naive definition, ties, ids, worker count, document order, speed, bad input."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import train_bpe
from cs336_basics.tokenizer.bpe import merge_counts
from cs336_basics.tokenizer.files import to_printable
from cs336_basics.tokenizer.pretokenize import Pretokenizer

END = "<|endoftext|>"

Merges = list[tuple[bytes, bytes]]
Refused = Callable[..., None]

# Few letters and small counts: nearly every step is a tie. 0 and 255 stand at the ends of the order.
tied_counts = st.dictionaries(
    st.lists(st.sampled_from([b"a", b"b", b"\x00", b"\xff"]), min_size=1, max_size=10).map(b"".join),
    st.integers(1, 3),
    max_size=12,
)


def naive_merges(counts: dict[bytes, int], n_merges: int) -> Merges:
    """Recount every pair at every step; the greatest (count, pair) wins."""
    words = [([bytes([byte]) for byte in word], count) for word, count in counts.items()]
    merges: Merges = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, _ in words:
            place = 0
            while place + 1 < len(word):
                if (word[place], word[place + 1]) == best:
                    word[place : place + 2] = [best[0] + best[1]]
                place += 1
    return merges


@given(tied_counts, st.integers(0, 30))
@settings(deadline=None, max_examples=150)
def test_merges_are_the_definition(counts: dict[bytes, int], n_merges: int) -> None:
    assert merge_counts(counts, n_merges) == naive_merges(counts, n_merges)


def test_merges_of_real_text_are_the_definition(prose: str) -> None:
    counts = Counter(pretoken.encode() for pretoken in Pretokenizer().split(prose[:20_000]))
    assert merge_counts(counts, 150) == naive_merges(counts, 150)


@given(tied_counts, st.integers(0, 15), st.integers(0, 15), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_fewer_merges_are_a_prefix_in_any_order_of_words(
    counts: dict[bytes, int], n: int, k: int, rng: random.Random
) -> None:
    shuffled = list(counts.items())
    rng.shuffle(shuffled)
    more = merge_counts(counts, n + k)
    assert merge_counts(dict(shuffled), n) == more[:n]
    # Merging pairs everywhere leaves one way to make a token.
    assert len({left + right for left, right in more}) == len(more)


@pytest.mark.parametrize(
    ("counts", "merges"),
    [
        ({b"ab": 1, b"ba": 1}, [(b"b", b"a"), (b"a", b"b")]),
        ({b"ab": 1, b"a\xff": 1}, [(b"a", b"\xff"), (b"a", b"b")]),
        ({b"aaaaa": 1}, [(b"a", b"a"), (b"aa", b"aa"), (b"aaaa", b"a")]),
        # A tie where one left part is the beginning of the other: ("ab", "c") is greater than ("a", "z").
        ({b"ab": 5, b"abc": 2, b"az": 2}, [(b"a", b"b"), (b"ab", b"c"), (b"a", b"z")]),
        ({}, []),
        ({b"a": 9}, []),
    ],
)
def test_examples(counts: dict[bytes, int], merges: Merges) -> None:
    assert merge_counts(counts, 10) == merges == naive_merges(counts, 10)


def test_ids_are_bytes_then_merges_then_special_tokens(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("low low<|a|>low~lower<|b|>", encoding="utf-8")
    vocab, merges = train_bpe(path, 261, ["<|b|>", "~", "<|a|>"])
    assert merges == [(b"o", b"w"), (b"l", b"ow"), (b"low", b"e")]
    assert vocab == {
        **{byte: bytes([byte]) for byte in range(256)},
        256: b"ow",
        257: b"low",
        258: b"lowe",
        259: b"<|b|>",
        260: b"<|a|>",
    }


def test_a_text_that_runs_out_of_pairs_gives_a_smaller_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(f"abc{END}", encoding="utf-8")
    vocab, merges = train_bpe(str(path), 1000, [END])
    assert merges == [(b"b", b"c"), (b"a", b"bc")]
    assert len(vocab) == 259


def test_special_tokens_take_no_part_in_merges(prose: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(prose.replace(" the", f" the{END}"), encoding="utf-8", newline="")
    vocab, _ = train_bpe(path, 1000, [END])
    assert [token for token in vocab.values() if b"<|" in token or b"endof" in token] == [END.encode()]


@pytest.mark.slow
def test_the_result_depends_neither_on_workers_nor_on_the_order_of_documents(prose: str, tmp_path: Path) -> None:
    documents = (prose * 18).split(END)  # 2.3 MB
    path, other = tmp_path / "text.txt", tmp_path / "shuffled.txt"
    path.write_text(END.join(documents), encoding="utf-8", newline="")
    random.Random(0).shuffle(documents)
    other.write_text(END.join(documents), encoding="utf-8", newline="")
    assert path.stat().st_size > 2 << 20  # large enough that two workers do share it
    one = train_bpe(path, 400, [END])
    assert train_bpe(path, 400, [END], n_workers=2) == one
    assert train_bpe(other, 400, [END]) == one


def test_progress_is_silent_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.txt"
    path.write_text("low lower lowest", encoding="utf-8")
    assert train_bpe(path, 260, [], progress=True) == train_bpe(path, 260, [])
    assert capsys.readouterr() == ("", "")
    steps: list[int] = []
    merge_counts({b"low": 2}, 5, advance=steps.append)
    assert steps == [1, 1]


@pytest.mark.parametrize("letters", ["a", "abcdefghijklmnopqrstuvwxyz"])
def test_a_word_without_end_does_not_stall_training(letters: str) -> None:
    """About 1 s of processor time each; visiting the whole word at every merge would take minutes."""
    word = "".join(random.Random(0).choices(letters, k=200_000)).encode()
    start = time.process_time()
    assert len(merge_counts({word: 1}, 1000)) == (1000 if len(letters) > 1 else 22)
    assert time.process_time() - start < 8


def test_130_kb_at_vocabulary_500_trains_in_well_under_half_a_second(prose: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(prose.encode()[:130_000])
    start = time.process_time()
    vocab, _ = train_bpe(path, 500, [END])
    assert time.process_time() - start < 0.5  # 0.05 to 0.1 s
    assert len(vocab) == 500


def test_merges_agree_with_another_library_while_nothing_is_tied(prose: str) -> None:
    """`tokenizers` breaks ties otherwise, so the two part at the first tie: after some hundred merges here."""
    other = tokenizers.Tokenizer(tokenizers.models.BPE())
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + 60, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    other.train_from_iterator([prose], trainer)
    counts = Counter(pretoken.encode() for pretoken in Pretokenizer().split(prose))
    ours = [[to_printable(left), to_printable(right)] for left, right in merge_counts(counts, 60)]
    assert ours == json.loads(other.to_str())["model"]["merges"]


@pytest.mark.parametrize(
    ("content", "vocab_size", "specials", "words"),
    [
        (b"", 300, [], ["input_path", "empty"]),
        (b"a\xff", 300, [], ["input_path", "UTF-8", "byte offset 1"]),
        (b"text", 255, [], ["vocab_size", "256 or more", "255"]),
        (b"text", 257, [END, "<|pad|>"], ["vocab_size", "2 special tokens", "258 or more", "257"]),
        (b"text", True, [], ["vocab_size", "bool"]),
        (b"text", 300.0, [], ["vocab_size", "float"]),
        (b"text", 300, [END, END], ["special_tokens", "twice", END]),
        (b"text", 300, [END, ""], ["special_tokens[1]", "empty"]),
        (b"text", 300, END, ["special_tokens", "list"]),
        (b"text", 300, None, ["special_tokens", "list"]),
        (b"text", 300, [b"<|end|>"], ["special_tokens[0]", "str", "bytes"]),
        (b"text", 300, ["<\ud800>"], ["special_tokens[0]", "U+D800", "index 1"]),
    ],
)
def test_bad_input(
    content: bytes, vocab_size: int, specials: list[str], words: list[str], tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    refused(lambda: train_bpe(path, vocab_size, specials), "train_bpe: ", *words)


def test_bad_paths_workers_and_counts(tmp_path: Path, refused: Refused) -> None:
    refused(lambda: train_bpe(tmp_path / "none.txt", 300, []), "train_bpe: input_path", "none.txt", "No such file")
    refused(lambda: train_bpe(tmp_path, 300, []), "train_bpe: input_path", str(tmp_path), "directory")
    refused(lambda: train_bpe(3, 300, []), "train_bpe: input_path", "path", "int 3")  # type: ignore[arg-type]  # the bad input
    path = tmp_path / "text.txt"
    path.write_bytes(b"text")
    refused(lambda: train_bpe(path, 300, [], n_workers=0), "train_bpe: n_workers", "1 or more", "int 0")
    refused(lambda: merge_counts({b"ab": 0}, 1), "merge_counts: counts", "0")
    refused(lambda: merge_counts({b"ab": 1}, -1), "merge_counts: n_merges", "-1")
