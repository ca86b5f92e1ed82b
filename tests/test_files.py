"""Whole files: the old ones or the new ones, never a part or a mixture, and nothing beside them."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cs336_basics.files import append, held, sweep, whole_file, whole_files, write_text


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as file:
        file.write(b"one")
        assert not (tmp_path / "a").exists()
        names = [path.name for path in tmp_path.iterdir()]
        assert len(names) == 1
        assert names[0].startswith(".a."), "hidden, so that no pattern of names takes it for the file"
        assert names[0].endswith(".tmp")
    with whole_file(str(tmp_path / "a")) as file:
        file.write(b"two")
        assert (tmp_path / "a").read_bytes() == b"one"
    assert contents(tmp_path) == {"a": b"two"}


def test_text_is_utf8_with_its_line_ends_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é\r\nb\n")
    assert contents(tmp_path) == {"a": "é\r\nb\n".encode()}


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("old", [{}, {"a": b"old"}, {"a": b"old", "b": b"old too"}])
def test_whatever_the_body_raises_leaves_the_folder_as_it_was(
    tmp_path: Path, fault: type[BaseException], old: dict[str, bytes]
) -> None:
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)

    def write() -> None:
        with whole_files(tmp_path / "a", tmp_path / "b") as (first, second):
            first.write(b"new")
            second.write(b"new too")
            raise fault("midway")

    with pytest.raises(fault, match="midway"):
        write()
    assert contents(tmp_path) == old


STEPS = ["open 1", "open 2", "fsync 1", "fsync 2", "unlink 1", "replace 1", "replace 2"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_at_any_step_never_mixes_old_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: BaseException
) -> None:
    old = {"a": b"old", "b": b"old too"}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    name, number = step.split()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), int(number), fault))
        with pytest.raises(type(fault)):
            write_both(tmp_path)
    found = contents(tmp_path)
    if step == "replace 1":
        assert found == {"a": b"old"}, "the one that would have been old beside new is gone"
    elif step == "replace 2":
        assert found == {"a": b"new"}
    else:
        assert found == old
    write_both(tmp_path)
    assert contents(tmp_path) == {"a": b"new", "b": b"new too"}


def write_both(folder: Path) -> None:
    with whole_files(folder / "a", folder / "b") as (first, second):
        first.write(b"new")
        second.write(b"new too")


def failing(real: Callable[..., Any], number: int, fault: BaseException) -> Callable[..., Any]:
    """`real`, but its call `number` raises `fault`."""
    calls = iter(range(1, 100))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise fault
        return real(*args, **kwargs)

    return wrapper


def test_all_is_on_disk_before_the_first_rename_and_the_folder_after_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name.split(".")[-1])
        fsync(descriptor)

    def replaced(path: Path, target: Path) -> None:
        done.append(f"replace {target.name}")
        assert path.stat().st_size == len({"a": b"new", "b": b"new too"}[target.name]), "flushed"
        replace(path, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("what a descriptor is of is read from /proc")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_both(tmp_path)
    folder = f"sync {tmp_path.name}"
    assert done == ["sync tmp", "sync tmp", "replace a", folder, "replace b", folder]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = OSError(22, "Invalid argument")
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 2, fault))
    with whole_file(tmp_path / "a") as file:
        file.write(b"one")
    assert contents(tmp_path) == {"a": b"one"}


def test_a_folder_whose_sync_fails_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 2, OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_text(tmp_path / "a", "one")
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_the_error_names_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, name, failing(getattr(os, name), 1, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(tmp_path / "a", "one")
    assert caught.value.filename == str(tmp_path / "a")


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    append(path, b"one\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:2]))  # as a full disk does
    with pytest.raises(OSError, match="No space left on device") as caught:
        append(path, b"two\n")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"one\n"
    monkeypatch.undo()
    append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_link_is_not_appended_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "lines").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"lines"):
        append(tmp_path / "lines", b"one\n")
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    others = {".a.tmp", "a.12-0123abcd.tmp", ".a.b", "b"}
    for name in (*others, ".step-00000004.pt.12-0123abcd.tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others
    sweep(tmp_path / "nowhere")


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path):
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "), held(path):
            raise AssertionError("two hold it")
        assert path.exists()
    with held(path):
        pass
    words = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(BlockingIOError, match=f"process {holder.pid} on "), held(path):
            raise AssertionError("two hold it")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with held(path):
            pass


HOLDING = """
import sys
from cs336_basics.files import held
with held(sys.argv[1]):
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("place", ["nowhere/a", "file/a", "x" * 300])
def test_a_place_that_cannot_be_written_is_the_systems_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OSError):  # noqa: PT011  # each place has a text of its own
        write_text(tmp_path / place, "x")
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a device"])
def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(os.devnull)
    before = path.lstat()
    with pytest.raises(OSError, match="not a plain file"):
        write_text(path, "x")
    assert path.lstat().st_mode == before.st_mode
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


KILLED = """
import sys
from cs336_basics.files import whole_file
with whole_file(sys.argv[1]) as file:
    file.write(b"half" * 100_000)
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    words = [sys.executable, "-c", KILLED, str(tmp_path / "a")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / "a").read_bytes() == b"old"
