"""Checkpoints that were made to do harm: their seals are right, so that nothing but the reading of them can refuse."""

import builtins
import codecs
import ctypes
import functools
import hashlib
import importlib
import io
import operator
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import warnings
import webbrowser
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cs336_basics.train.checkpoint import load_checkpoint
from cs336_basics.train.errors import CheckpointError
from tests.faults.campaigns import Row
from tests.train.tiny import states, tiny_model, trained


class Calls:
    """Unpickled by an unwary reader, calls a function."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.given


def pickles(flag: Path) -> dict[str, Any]:
    """Twenty-two values that do something when they are unpickled; most of them touch a file."""
    touch = f"open({str(flag)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, f"touch {flag}"),
        "os.mkdir": Calls(os.mkdir, str(flag)),
        "os.popen": Calls(os.popen, f"touch {flag}"),
        "os.putenv": Calls(os.putenv, "CS336_HARM", "1"),
        "eval": Calls(builtins.eval, touch),
        "exec": Calls(builtins.exec, touch),
        "open": Calls(builtins.open, str(flag), "w"),
        "compile": Calls(builtins.compile, touch, "a", "exec"),
        "__import__": Calls(builtins.__import__, "antigravity"),
        "getattr": Calls(builtins.getattr, Path, "unlink"),
        "import_module": Calls(importlib.import_module, "this"),
        "Popen": Calls(subprocess.Popen, ["touch", str(flag)]),
        "check_output": Calls(subprocess.check_output, ["touch", str(flag)]),
        "rmtree": Calls(shutil.rmtree, str(flag.parent / "precious")),
        "Path.touch": Calls(Path.touch, flag),
        "run_path": Calls(runpy.run_path, str(flag)),
        "partial": Calls(functools.partial, os.system, "true"),
        "attrgetter": Calls(operator.attrgetter, "system"),
        "decode": Calls(codecs.decode, b"x", "hex"),
        "CDLL": Calls(ctypes.CDLL, "libc.so.6"),
        "torch.load": Calls(torch.load, str(flag)),
        "np.save": Calls(np.save, str(flag), 1),
        "webbrowser": Calls(webbrowser.open, "file:///"),
        "codecs.open": Calls(codecs.open, str(flag), "w"),
    }


def sealed(raw: bytes) -> bytes:
    """The bytes with a seal, as somebody makes it who knows how."""
    seal = b"\ncs336 checkpoint 2 sha256 "
    return raw + seal + hashlib.sha256(raw + seal).hexdigest().encode() + b"\n"


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rezipped(raw: bytes, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> bytes:
    """The zip with its records written anew by `change`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of names given twice
        for record in old.infolist():
            change(new, record, old.read(record))
    return buffer.getvalue()


def files(flag: Path) -> dict[str, bytes]:
    """Hostile files by what they try."""
    sound = {**states(*trained("adamw", steps=1)), "iteration": 1, "about": {}}
    raw = saved(sound)
    found = {name: saved(sound | {"about": {"a": value}}) for name, value in pickles(flag).items()}
    found["bare pickle"] = pickle.dumps({**sound, "about": Calls(os.mkdir, str(flag))})

    def bomb(new: zipfile.ZipFile, record: zipfile.ZipInfo, content: bytes) -> None:
        new.writestr(record.filename, content)
        if record.filename.endswith("data.pkl"):
            new.writestr("archive/data/bomb", bytes(1 << 28), zipfile.ZIP_DEFLATED)

    def squeezed(new: zipfile.ZipFile, record: zipfile.ZipInfo, content: bytes) -> None:
        new.writestr(record.filename, content, zipfile.ZIP_DEFLATED)

    found |= {"bomb": rezipped(raw, bomb), "all compressed": rezipped(raw, squeezed)}
    for name in ("archive/../../evil", "/etc/evil", "archive/../evil", "archive\\..\\evil", "C:/evil", "evil", "a//b"):

        def astray(new: zipfile.ZipFile, record: zipfile.ZipInfo, content: bytes, name: str = name) -> None:
            new.writestr(record.filename, content)
            if record.filename.endswith("data.pkl"):
                new.writestr(name, b"harm")

        found[f"name {name}"] = rezipped(raw, astray)
    nest: Any = []
    for _ in range(sys.getrecursionlimit() // 4):
        nest = [nest]
    found["nested"] = saved(sound | {"model": nest})
    found["huge"] = saved(sound | {"about": {"a": Calls(bytearray, 1 << 62)}})
    return found


def refused(work: Path) -> Row:
    """Load each of them; none may do anything but be refused in a line, and the model stay as it was."""
    row = Row("a file made to do harm")
    flag, path = work / "harmed", work / "a.pt"
    (work / "precious").mkdir()
    for name, raw in files(flag).items():
        path.write_bytes(sealed(raw))
        model = tiny_model(seed=3)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        try:
            load_checkpoint(path, model)
            row.count(f"{name} was loaded")
            continue
        except CheckpointError as error:
            text = str(error)
        same = all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        unharmed = not flag.exists() and (work / "precious").exists() and "CS336_HARM" not in os.environ
        row.count("" if same and unharmed and "\n" not in text else f"{name}: {text}")
    return row
