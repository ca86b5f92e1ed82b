"""That `compile_all` leaves nothing to be compiled later."""

import subprocess
import sys

LEFT_OUT = """
import importlib, pkgutil
from cs336_basics.tokenizer import fast
from cs336_basics.tokenizer.fast.warm import compile_all
compile_all()
for info in pkgutil.iter_modules(fast.__path__):
    module = importlib.import_module(f"{fast.__name__}.{info.name}")
    for name, value in vars(module).items():
        if hasattr(value, "py_func") and type(value._cache).__name__ != "NullCache":
            print(info.name, name, len(value.signatures))
"""


def test_every_entry_is_called() -> None:
    run = subprocess.run([sys.executable, "-c", LEFT_OUT], check=True, capture_output=True, text=True)
    entries = {tuple(line.split()[:2]): int(line.split()[2]) for line in run.stdout.splitlines()}
    assert ("spans", "encode_span") in entries
    assert [name for name, n_signatures in entries.items() if n_signatures != 1] == []
