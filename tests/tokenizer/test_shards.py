"""Files in parts: cuts that change nothing, any executor, dead workers, and parts kept from an earlier run."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import TokenizerError, shards, train_bpe
from cs336_basics.tokenizer.counts import PretokenCounts
from cs336_basics.tokenizer.pretokenize import Pretokenizer
from cs336_basics.tokenizer.shards import Shard, find_shards, forget, kept, run_shards, shards_of

END = "<|endoftext|>"
SPACES = "\t\n\r \x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2028\u202f\u205f\u3000"


@given(
    text=st.text(alphabet="ab'sl12.é漢字👍\u0301\u200b" + SPACES, min_size=2, max_size=80),
    specials=st.lists(st.sampled_from(["a b", " a", "\n", "  ", "<|", "é "]), unique=True, max_size=2),
    n_shards=st.integers(2, 20),
)
@settings(deadline=None, max_examples=500)
def test_a_cut_at_white_space_changes_no_pretoken(
    text: str, specials: list[str], n_shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "cuts.txt"
    path.write_bytes(text.encode())
    split = Pretokenizer(specials).split
    parts = [path.read_bytes()[shard.start : shard.end].decode() for shard in find_shards(path, n_shards, specials)]
    assert [token for part in parts for token in split(part)] == split(text)


@pytest.mark.parametrize(
    "text", ["some words\n", "длинные слова ", "漢字の 文\n", "हिन्दी शब्द ", "คำ ไทย\n", f"nospace{END}", "👍 "]
)
def test_shards_are_of_about_one_size(text: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode() * 1000)
    sizes = [shard.end - shard.start for shard in find_shards(path, 4, [END])]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) < 100


def test_a_file_with_no_place_to_cut_is_one_shard(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("漢\u3000字".encode() * 1000)
    assert find_shards(path, 4, [END]) == [Shard(path, 0, 9000)]


def test_shards_that_are_kept_do_not_follow_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "KEPT_SHARD_BYTES", 100)
    monkeypatch.setattr(shards, "LEAST_SHARD_BYTES", 10)
    path = tmp_path / "text.txt"
    path.write_bytes(b"word " * 100)
    cut = partial(shards_of, path, 500, [])
    cut = partial(cut, executor=None)
    assert len(cut(n_workers=1, kept=True)) == 5
    assert cut(n_workers=1, kept=True) == cut(n_workers=7, kept=True)
    assert len(cut(n_workers=1, kept=False)) == 1
    assert len(cut(n_workers=2, kept=False)) == 8
    with ThreadPoolExecutor(1) as executor:  # which may have more workers than its user says
        assert len(cut(n_workers=1, kept=False, executor=executor)) == 5


def parts(tmp_path: Path) -> list[Shard]:
    path = tmp_path / "text.txt"
    path.write_bytes(b"0123456789")
    return [Shard(path, start, start + 1) for start in range(10)]


def fails_at(shard: Shard, place: int) -> int:
    if shard.start == place:
        raise ValueError(f"at {place}")
    return shard.start


def dies_once(shard: Shard, mark: Path) -> int:
    """Ends its process at shard 3, as a kill would."""
    if shard.start == 3 and not mark.exists():
        mark.touch()
        os._exit(9)
    return shard.start


def dies(_: Shard) -> int:
    os._exit(9)


def test_results_come_in_order_and_an_error_as_it_is(tmp_path: Path) -> None:
    told: list[int] = []
    with ThreadPoolExecutor(3) as threads:
        assert list(run_shards(partial(fails_at, place=-1), parts(tmp_path), threads, advance=told.append)) == list(
            range(10)
        )
        assert told == [1] * 10
        with pytest.raises(ValueError, match=r"^at 4$"):
            list(run_shards(partial(fails_at, place=4), parts(tmp_path), threads))


def test_a_dead_worker_is_one_clear_error(tmp_path: Path) -> None:
    mark = tmp_path / "died"
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        message = re.escape("n_workers: a worker process died; if this is a script, make the call under `if __name__")
        with pytest.raises(TokenizerError, match=message) as caught:
            list(run_shards(partial(dies_once, mark=mark), parts(tmp_path), processes))
    assert mark.exists()
    assert caught.value.__suppress_context__


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    calls: list[int] = []
    folder, [shard, other, *_] = tmp_path / "kept", parts(tmp_path)
    folder.mkdir()

    def get(shard: Shard = shard, what: str = "x") -> bytes:
        def make() -> bytes:
            calls.append(1)
            return f"{shard.start} {what}".encode()

        return kept(folder, shard, what, make)

    assert (get(), get(), len(calls)) == (b"0 x", b"0 x", 1)
    assert (get(other), get(what="y"), len(calls)) == (b"1 x", b"0 y", 3)
    [path] = [path for path in folder.iterdir() if path.read_bytes().endswith(b"0 x")]
    for damage in (path.read_bytes()[:-1], b"", path.read_bytes().replace(b"0 x", b"1 x")):
        path.write_bytes(damage)
        n_calls = len(calls)
        assert (get(), get(), len(calls)) == (b"0 x", b"0 x", n_calls + 1)
    shard.path.write_bytes(b"9876543210x")
    n_calls = len(calls)
    assert (get(), len(calls)) == (b"0 x", n_calls + 1)
    (folder / "other.part").touch()
    forget(folder)
    assert [path.name for path in folder.iterdir()] == ["other.part"]
    (folder / "other.part").unlink()
    forget(folder)
    assert not folder.exists()
    forget(folder)
    assert kept(None, shard, "x", lambda: b"anew") == b"anew"
    assert kept(folder / "gone", shard, "x", lambda: b"anew") == b"anew"  # as another run leaves it
    (tmp_path / "file").touch()
    assert kept(tmp_path / "file", shard, "x", lambda: b"anew") == b"anew"


def test_a_kill_while_a_part_is_written_leaves_nothing_for_good(tmp_path: Path) -> None:
    folder, [shard, *_] = tmp_path / "kept", parts(tmp_path)
    folder.mkdir()
    code = """
import os, signal, sys
from pathlib import Path
from cs336_basics.tokenizer.shards import Shard, kept
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
kept(Path(sys.argv[1]), Shard(Path(sys.argv[2]), 0, 1), "x", lambda: b"part")
"""
    command = [sys.executable, "-c", code, str(folder), str(shard.path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [path.suffix for path in folder.iterdir()] == [".tmp"]
    assert kept(folder, shard, "x", lambda: b"anew") == b"anew"
    forget(folder)
    assert not folder.exists()


@pytest.mark.parametrize("engine", ["python", "fast"])
def test_training_goes_on_from_what_was_kept(
    engine: Any, prose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "KEPT_SHARD_BYTES", len(prose) // 5)
    path, folder = tmp_path / "text.txt", tmp_path / "kept"
    path.write_bytes(prose.encode())
    train = partial(train_bpe, path, 400, [END], engine=engine)
    expected = train()
    assert train(keep=folder) == expected
    assert len(list(folder.iterdir())) >= 5
    monkeypatch.setattr("cs336_basics.tokenizer.count._counted", None)  # counting would fail now
    monkeypatch.setattr("cs336_basics.tokenizer.fast.count._count_into", None)
    assert train(keep=folder, n_workers=2, engine="fast") == expected
    next(folder.iterdir()).unlink()
    with pytest.raises(TypeError):
        train(keep=folder)


def test_refuses_what_is_no_folder_and_no_executor(tmp_path: Path, refused: Any) -> None:
    [shard, *_] = parts(tmp_path)
    refused(lambda: train_bpe(shard.path, 300, [], keep=shard.path), "train_bpe: keep", "a folder to write to")
    refused(lambda: train_bpe(shard.path, 300, [], keep=3), "train_bpe: keep", "got int 3")  # type: ignore[arg-type]  # the bad input
    refused(lambda: train_bpe(shard.path, 300, [], executor=3), "train_bpe: executor", "got int 3")  # type: ignore[arg-type]  # the bad input
    refused(lambda: train_bpe(shard.path, 300, [], executor=ThreadPoolExecutor), "executor", "got type")  # type: ignore[arg-type]  # the bad input
    with ThreadPoolExecutor(1) as threads:
        pass
    refused(lambda: list(run_shards(len, [shard], threads)), "executor must take work", "after shutdown")


def test_counts_keep_their_form() -> None:
    counts = {b"": 1, b"a": 1 << 40, "漢".encode(): 3}
    made = PretokenCounts.of(counts)
    assert made.counter() == counts
    again = PretokenCounts.from_bytes(made.to_bytes())
    for one, other in ((made.text, again.text), (made.offsets, again.offsets), (made.counts, again.counts)):
        assert np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["python", "fast"])
def test_a_cluster_gives_the_same(engine: Any, prose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr(shards, "LEAST_SHARD_BYTES", len(prose) // 10)
    path, mark = tmp_path / "text.txt", tmp_path / "died"
    path.write_bytes(prose.encode())
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        executor = client.get_executor()
        expected = train_bpe(path, 400, [END], engine="python")
        assert train_bpe(path, 400, [END], engine=engine, executor=executor, n_workers=2) == expected
        # dask starts a worker that died anew, and gives its work to another.
        assert list(run_shards(partial(dies_once, mark=mark), parts(tmp_path), executor)) == list(range(10))
        assert mark.exists()
        # Work that ends every worker that tries it is given up.
        with pytest.raises(TokenizerError, match=r"^n_workers: a worker process died"):
            list(run_shards(dies, parts(tmp_path)[:1], executor))
