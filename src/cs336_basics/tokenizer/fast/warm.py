"""The machine code of this room on disk: whether it is there, and making it."""

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from cs336_basics.tokenizer.fast import joints
from cs336_basics.tokenizer.fast.count import count_file
from cs336_basics.tokenizer.fast.learn import merge_counts
from cs336_basics.tokenizer.fast.twin import Twin

_MANY_WORDS: Final = 3000  # more than a new table of counts has room for


def is_compiled() -> bool:
    """Whether code for this Python lies in numba's cache; it may still be of another numba or an older source."""
    version = f"py{sys.version_info[0]}{sys.version_info[1]}"
    run: Any = joints.run  # a dispatcher, of which the types say nothing
    return any(Path(run.stats.cache_path).glob(f"joints.run-*.{version}.nbi"))


def compile_all() -> None:
    """Call everything once, on next to nothing; a table of counts must grow for that."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text")
        text.write_text(f"a text to count, and to count again <|end|>{' '.join(map(str, range(_MANY_WORDS)))}")
        merge_counts(count_file(text, ["<|end|>"]).counter(), 3)
    twin = Twin([*(bytes([byte]) for byte in range(256)), b"aa", b"<|end|>"], [(b"a", b"a")], {"<|end|>": 257})
    twin.decode(twin.encode_array(f"a text<|end|>and a long word: {'a' * 1000}", frozenset({"<|end|>"})))
    twin.encode("a small one", frozenset())
    list(twin.encode_chunks(["a text in ", "chunks"], frozenset()))
