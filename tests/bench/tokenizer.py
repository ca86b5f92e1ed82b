"""Training, encoding and decoding beside gigatoken, rustbpe, tokenizers and tiktoken, one thread each but for training.

The text is that of CS336_DATA (technical.txt and multilingual.txt, and GPT-2's vocabulary beside them). Without it
there is less to measure, on text that every machine has, and nothing that must be reached. A peer that is not
installed is left out, and said so.
"""

import os

# Before a peer starts its threads: encoding is measured on one.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import importlib
import importlib.util  # after the lines above
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final, TypeVar

import numpy as np

from cs336_basics.tokenizer import Tokenizer, train_bpe
from tests.bench.measure import Bound, Figure, compare, medians, ratio, take_turns, take_turns_once
from tests.bench.processes import starts, training, two_threads
from tests.bench.trainers import END

TRAINED_ON: Final = 130_000  # bytes
TEXTS: Final = ("technical", "multilingual")
PEERS: Final = ("gigatoken", "rustbpe", "tokenizers", "tiktoken")
CALL_CHARACTERS: Final = 64

T = TypeVar("T", bound=Any)
Makers = Mapping[str, Callable[[], Callable[[], object]]]


def figures(rounds: int) -> Iterator[Figure]:
    """Everything, against whatever peers are there."""
    yield from everywhere(rounds)
    peers = [peer for peer in PEERS if importlib.util.find_spec(peer)]
    for peer in PEERS:
        if peer not in peers:
            print(f"{peer} is not installed: no row against it")
    data = Path(os.environ.get("CS336_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not data.is_dir():
        print("no real text (set CS336_DATA to a folder of it): nothing that must be reached is measured")
        return
    if importlib.util.find_spec("numba") is None:
        print("numba is not installed: the fast twin is not measured")
        return
    yield from starts(rounds)
    yield from training(rounds, data, TEXTS, peers)
    for name in TEXTS:
        text = (data / f"{name}.txt").read_text(encoding="utf-8")
        yield from coding(rounds, name, text, data / "gpt2", peers)


def everywhere(rounds: int) -> Iterator[Figure]:
    """The readable twin on the documentation of Python's own syntax: training at vocabulary 500 on 130 kB; encoding."""
    from cs336_basics.interop.tiktoken import to_tiktoken

    text = "".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore").decode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text[:TRAINED_ON], encoding="ascii")
        seconds = take_turns({"train_bpe": lambda: train_bpe(path, 500, [])}, rounds=rounds)
        vocab, merges = train_bpe(path, 500, [])
    yield Figure(group="tokenizer", name="train on 130 kB to vocabulary 500", seconds=medians(seconds))
    warm = Tokenizer(vocab, merges, engine="python")
    other = to_tiktoken(warm)
    candidates = {
        "first": lambda: Tokenizer(vocab, merges, engine="python").encode(text),
        "tiktoken": lambda: other.encode(text),
    }
    size = f"{len(text) // 1000} kB"
    for name, ours in (("a new tokenizer", candidates["first"]), ("a tokenizer in use", lambda: warm.encode(text))):
        pair = {"ours": ours, "tiktoken": candidates["tiktoken"]}
        figure = compare("tokenizer", f"encode {size}, {name}", pair, rounds=rounds)
        rates = {f"{key} kB/s": len(text) / 1000 / value for key, value in figure.seconds.items()}
        yield replace(figure, rates=rates)


def coding(rounds: int, name: str, text: str, vocabulary: Path, peers: list[str]) -> Iterator[Figure]:
    """Encoding and decoding a text with GPT-2's vocabulary; the ids of every peer must be ours."""
    files = vocabulary / "vocab.json", vocabulary / "merges.txt"
    fresh = partial(Tokenizer.from_files, *files, [END], engine="fast")
    used = started(fresh())
    n_bytes = len(text.encode())
    row = partial(_row, rounds, n_bytes)
    ids = used.encode_array(text)
    if "tiktoken" in peers:
        import tiktoken

        from cs336_basics.interop.tiktoken import to_tiktoken

        ranks = to_tiktoken(used)
        assert isinstance(ranks, tiktoken.Encoding)
        same_ids("tiktoken", ranks.encode_to_numpy(text, allowed_special="all"), ids)
        every: Any = {"allowed_special": "all"}
        new: Makers = {
            "ours": lambda: partial(started(fresh()).encode_array, new_str(text)),
            "tiktoken": lambda: partial(started(to_tiktoken(used)).encode_to_numpy, new_str(text), **every),
        }
        yield row(f"encode {name} to an array, first pass", new, Bound(">=", 5.0))
        made: Makers = {
            "ours": lambda: partial(used.encode, text),
            "tiktoken": lambda: partial(ranks.encode, text, **every),
        }
        yield row(f"encode {name} to a list", made, Bound(">=", 3.0))
        call = text[len(text) // 2 :][:CALL_CHARACTERS]
        pair = {"ours": lambda: used.encode(call), "tiktoken": lambda: ranks.encode_ordinary(call)}
        figure = compare("tokenizer", f"encode {CALL_CHARACTERS} characters of {name}", pair, rounds=rounds)
        yield replace(figure, must={"ours/tiktoken": Bound("<=", 1.5)})
    if "gigatoken" in peers:
        with tempfile.TemporaryDirectory() as folder:
            load = _gigatoken(used, Path(folder))
            theirs = load()
            same_ids("gigatoken", theirs.encode(text), ids)
            new = {
                "ours": lambda: partial(started(fresh()).encode_array, new_str(text)),
                "gigatoken": lambda: partial(started(load()).encode, new_str(text)),
            }
            yield row(f"encode {name} to an array, first pass", new, Bound(">=", 1.0))
            made = {
                "ours": lambda: partial(used.encode_array, text),
                "gigatoken": lambda: partial(theirs.encode, text),
            }
            yield row(f"encode {name} to an array, warm", made, Bound(">=", 0.6))
            wide = ids.astype(np.uint32)
            made = {"ours": lambda: partial(used.decode_bytes, ids), "gigatoken": lambda: partial(theirs.decode, wide)}
            yield row(f"decode {name}", made, Bound(">=", 2.0))
    yield two_threads(rounds, name, text, used)


def started(tokenizer: T) -> T:
    """Ours or a peer's, with its tables made: that is not what encoding costs."""
    tokenizer.encode("a")
    return tokenizer


def new_str(text: str) -> str:
    """An equal text that nothing has read: CPython keeps the UTF-8 that gigatoken asks for with a str, and the next
    call finds it there."""
    return text.encode().decode()


def same_ids(peer: str, found: Any, ids: "np.ndarray[Any, Any]") -> None:
    if not np.array_equal(np.asarray(found), ids):
        raise SystemExit(f"{peer} gives other ids: the rows against it would compare two things")


def _gigatoken(tokenizer: Tokenizer, folder: Path) -> Callable[[], Any]:
    """How to make gigatoken's tokenizer of the same vocabulary, from a file of ranks."""
    from base64 import b64encode

    gigatoken = importlib.import_module("gigatoken")
    path = folder / "ranks.tiktoken"
    special = tokenizer.special_id(END)
    ranks = {token: index for index, token in tokenizer.vocab.items() if index != special}
    path.write_bytes(b"".join(b"%s %d\n" % (b64encode(token), index) for token, index in ranks.items()))
    return lambda: gigatoken.Tokenizer.from_tiktoken(path, pretokenizer="gpt2", special_tokens={END: special})


def _row(rounds: int, n_bytes: int, name: str, makers: Makers, bound: Bound) -> Figure:
    """The speed of the first candidate over that of the second; each makes its call anew in each round, untimed."""
    first, second = makers
    seconds = take_turns_once(makers, rounds=rounds)
    found = medians(seconds)
    times = f"{first}/{second} speed"
    rates = {f"{key} MB/s": n_bytes / 1e6 / value for key, value in found.items()}
    return Figure(
        group="tokenizer",
        name=name,
        seconds=found,
        ratios={times: ratio(seconds, second, first)},
        rates=rates,
        must={times: bound},
    )
