"""Which of the two twins works: the readable one, or the one in machine code where it pays for its start."""

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from cs336_basics.contracts import describe
from cs336_basics.tokenizer.errors import TokenizerError

Engine = Literal["auto", "python", "fast"]
"""`python` is the specification, `fast` its twin in numba (the extra `fast`), with the same results bit for bit; `auto`
is `fast` where it is installed and the input large enough."""

PAYS_BYTES: Final = 3 << 20  # of text, from which on loading compiled code costs less than it saves
PAYS_COLD_BYTES: Final = 25 << 20  # the same where it is still to be compiled
_COMPILE: Final = "from cs336_basics.tokenizer.fast.warm import compile_all; compile_all()"


def is_fast(engine: Engine, n_bytes: int, *, where: str) -> bool:
    """Whether the fast twin is to work on `n_bytes` of text.

    Where `auto` finds it installed but never compiled, a text of some MB is left to the readable twin, and another
    process compiles meanwhile, for the next time.

    Raises: TokenizerError on another word, or if `fast` is asked for and numba is not installed.
    """
    if engine not in get_args(Engine):
        raise TokenizerError(f"{where}: engine must be 'auto', 'python' or 'fast', got {describe(engine)}")
    if engine == "python" or (engine == "auto" and n_bytes < PAYS_BYTES):
        return False
    if importlib.util.find_spec("numba") is None:
        if engine == "auto":
            return False
        raise TokenizerError(
            f"{where}: engine 'fast' needs numba: pip install 'cs336-basics[fast]', or give engine='python'"
        )
    if engine == "fast" or n_bytes >= PAYS_COLD_BYTES:
        return True
    from cs336_basics.tokenizer.fast.warm import is_compiled

    if is_compiled():
        return True
    compile_in_background()
    return False


def is_loaded() -> bool:
    """Whether this process has loaded the fast twin, so that small input, too, may have it."""
    return "cs336_basics.tokenizer.fast.machine" in sys.modules


@cache
def compile_in_background() -> "subprocess.Popen[bytes] | None":
    """Start a process, once, that fills numba's cache and ends; none where Python cannot be started."""
    if not Path(sys.executable or "").is_file() or getattr(sys, "frozen", False):
        return None
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", _COMPILE], stdin=quiet, stdout=quiet, stderr=quiet)
