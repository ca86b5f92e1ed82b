"""From words to a command: find it, fill its dataclass from TOML and flags, run it, say what went wrong."""

import dataclasses
import difflib
import errno
import importlib
import io
import os
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cs336_basics.cli.command import Command, option
from cs336_basics.cli.commands import COMMANDS
from cs336_basics.config import from_dict, read_toml
from cs336_basics.train.errors import TrainingWarning

USAGE_ERROR = 2


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, as an exception: it unwinds as Ctrl-C does, so that temporaries go."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 2 for bad input, 1 where work failed, 130 or 143 when stopped.

    Work fails where training does, where a disk is full or broken, or for want of memory. Ctrl-C stops it (130), and
    SIGTERM (143): training then finishes its step and saves it first, and a second signal stops it at once.
    """
    _print_any_text()
    code = 0
    try:
        with _terminable():
            code = _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        pass
    finally:
        _flush()
    return code


def _run(words: list[str]) -> int:
    if words in (["--version"], ["-V"]):
        from cs336_basics import __version__

        print(f"cs336 {__version__}")
        return 0
    found = _find(words)
    if found is None:
        return _overview(words)
    name, rest = found
    begun: Command | None = None
    try:
        command = parse(COMMANDS[name], rest, prog=f"cs336 {name}")
        command.validate()
        begun = command
        module, function = command.runner.split(":")
        with _warning_in_a_line(name):
            getattr(importlib.import_module(module), function)(command)
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _TerminatedError) or getattr(stop, "signum", 0) == signal.SIGTERM
        print(f"\ncs336 {name}: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        if str(stop):
            print(stop, file=sys.stderr)
        if begun and begun.goes_on():
            print("Next:", shlex.join(["cs336", *begun.goes_on()]), file=sys.stderr)
        return 143 if terminated else 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
            amount = f" for {asked[1]} more" if asked else ""
            print(f"cs336 {name}: error: no memory{amount}; {COMMANDS[name].lighter}", file=sys.stderr)
            return 1
        if not _is_ours(error):
            raise
        print(f"cs336 {name}: error: {_in_options(str(error), COMMANDS[name].names)}", file=sys.stderr)
        return 1 if _is_of_work(error) else USAGE_ERROR
    return 0


@contextmanager
def _warning_in_a_line(name: str) -> Iterator[None]:
    """Say this library's warnings in the words they were written in, each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", TrainingWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, TrainingWarning):
                print(f"cs336 {name}: warning: {message}", file=sys.stderr)
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM an exception, unless whoever called has another use for it."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        import multiprocessing

        # A terminal's Ctrl-C reaches the workers too; SIGTERM does not, and their executor waits for what they do.
        for worker in multiprocessing.active_children():
            worker.terminate()
        # An executor's thread may trip over work that was cancelled before it saw its workers go (Python 3.11).
        threading.excepthook = lambda _: None
        raise _TerminatedError

    hook = threading.excepthook
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.excepthook = hook


def _flush() -> None:
    """Write out what is still to be written; where the reader (head, less) has gone, that is nothing to tell.

    Python would try again at exit, and print a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # so where the shell has closed it
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse(cls: type[Command], words: list[str], *, prog: str) -> Command:
    """Fill a command from a TOML file (`--config FILE`), then from flags, which win.

    Raises: ConfigError for the file; SystemExit for --help or flags that do not fit.
    """
    import tyro

    path = option(words, "--config")
    values = cls.starting_point(read_toml(path, where="config: ") if path else {}, words)
    required = (f.name for f in dataclasses.fields(cls) if _is_required(f))
    default: Any = from_dict(cls, {**dict.fromkeys(required, tyro.MISSING), **values}, where=path)
    command: Command = tyro.cli(
        cls,
        prog=prog,
        args=words,
        default=default,
        description=(cls.__doc__ or "").strip(),
        config=(tyro.conf.AvoidSubcommands,),
    )
    return command


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _find(words: list[str]) -> tuple[str, list[str]] | None:
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in COMMANDS:
            return name, words[length:]
    return None


def _overview(words: list[str]) -> int:
    """List the commands; complain first where an unknown one was asked for."""
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    asked = [word for word in words if not word.startswith("-")]
    known = [name for name in COMMANDS if not group or name.startswith(f"{group} ")]
    wrong = " ".join(asked[:2] if group else asked[:1])
    wrong = "" if wrong == group else wrong
    if wrong:
        close = difflib.get_close_matches(wrong, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        print(f"cs336: error: {wrong} is not a command{hint}\n", file=sys.stderr)
    lines = [f"  {name:18}{(COMMANDS[name].__doc__ or '').strip().splitlines()[0]}" for name in known]
    text = "\n".join(["usage: cs336 COMMAND [OPTIONS]", "", *lines, "", "cs336 COMMAND --help explains the options."])
    print(text, file=sys.stderr if wrong else sys.stdout)
    return USAGE_ERROR if wrong or not words else 0


def _print_any_text() -> None:
    """Where standard output is no UTF-8, escape what it cannot say: a model may write any character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not so where a test or a notebook has put its own
            stream.reconfigure(errors="backslashreplace")


def _in_options(message: str, names: Mapping[str, str]) -> str:
    """The message with the option for a function's argument that it begins with."""
    for begin, option_name in names.items():
        if message.startswith(begin):
            return option_name + message.removeprefix(begin)
    return message


def _is_ours(error: Exception) -> bool:
    """Errors that were written for the user: this library's, and the operating system's about files."""
    return type(error).__module__.startswith("cs336_basics.") or isinstance(error, OSError)


def _is_of_work(error: Exception) -> bool:
    """Errors that no other input would mend: training that cannot go on, a disk that is full or broken."""
    disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return disk or type(error).__name__ in ("TrainingError", "SaveError")


def _is_out_of_memory(error: Exception) -> bool:
    """Python's and numpy's error, torch's own, known by its name as torch is not imported here, and its bare ones."""
    bare = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # of MPS, of the CPU, of cuBLAS
    return (
        isinstance(error, MemoryError)
        or (type(error).__module__, type(error).__name__) == ("torch", "OutOfMemoryError")
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in bare))
    )
