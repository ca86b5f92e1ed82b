"""A thousand damaged token files and sidecars: each opens as it was or is refused by one DataError."""

import random
from pathlib import Path

import numpy as np
import pytest

from cs336_basics.data.errors import DataError
from cs336_basics.data.token_file import open_tokens, read_info, sidecar_path, write_tokens


@pytest.mark.parametrize("vocab_size", [300, 70_000])
def test_a_damaged_token_file_opens_as_it_was_or_is_refused(vocab_size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    ids = np.random.default_rng(0).integers(0, vocab_size, 500)
    info = write_tokens(path, [ids], vocab_size=vocab_size, tokenizer_hash="of a tokenizer")
    contents = {file: file.read_bytes() for file in (path, sidecar_path(path))}
    refused = 0
    for seed in range(500):
        rng = random.Random(seed)
        file = list(contents)[seed % 2]
        file.write_bytes(damaged(rng, contents[file]))
        try:
            assert open_tokens(path).tolist() == ids.tolist(), seed
            assert read_info(path) == info, seed
        except DataError as error:
            message = str(error)
            assert "\n" not in message, seed
            refused += 1
        file.write_bytes(contents[file])
    assert refused > 450  # white space between the fields of a sidecar does not count


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The content with bytes changed, cut off, put in, or moved."""
    result = content
    while result == content:
        start, place = rng.randrange(len(content)), rng.randrange(len(content))
        size = rng.randint(0, 8)
        put_in = rng.choice(
            [b"", rng.randbytes(size), content[start : start + size], bytes(size), b"0", b" ", b"\n", b'"', b",", b"}",
             b'"count": 1,', b'"x": 1,', b"\xff", b"1e9", b"-1", b"NaN", b"\\u0030"]
        )  # fmt: skip
        result = content[:place] + put_in + content[place + rng.choice([0, size, len(put_in)]) :]
        if rng.random() < 0.15:
            result = content[:place]
    return result
