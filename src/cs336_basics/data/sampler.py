"""Where the windows of a step start: a pure function of (seed, step), so that resuming needs no state.

Step 1,000 costs what step 0 does, and two processes that agree on (seed, step) agree on the batch: process
`rank` of `world` takes rows [rank * batch_size // world, (rank + 1) * batch_size // world) of it.
"""

from math import isqrt
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from cs336_basics.contracts import contract
from cs336_basics.data.errors import DataError

_Words: TypeAlias = NDArray[np.uint64]

_ROUNDS: Final = 10  # below 8 the orders of a handful of windows are visibly not equally likely
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_WORD: Final = 1 << 64


@contract
def sample_starts(
    n_tokens: int, *, seed: int, step: int, batch_size: int, context_length: int, replacement: bool = True
) -> Int64[np.ndarray, " batch"]:
    """The first tokens of the windows of a step: window i is tokens[start_i : start_i + context_length + 1].

    With replacement, start_i is uniform over 0 to n_tokens - context_length - 1: word i of the stream of
    Philox under the key (seed, step), modulo the number of starts (bias below n_tokens / 2^64).

    Without replacement, draw g = step * batch_size + i visits window P(g mod W) of epoch e = g // W, where
    W = (n_tokens - 1) // context_length and P is a pseudo-random permutation of 0 to W - 1 fixed by (seed, e).
    Window k starts at min(offset + k * context_length, n_tokens - context_length - 1) with 0 <= offset <
    context_length fixed by (seed, e) also. So an epoch visits each of its W windows once, a batch may
    span two epochs, and a token stands at every place of a window as epochs go by. The windows do not
    overlap, save that the last is moved back where it would run off the end; the first `offset` tokens
    sit out.

    Shapes: -> (batch_size,), int64.
    Raises: ContractError on types; DataError on a size below 1, on seed or step outside 0 to 2^64 - 1 and
        on fewer tokens than context_length + 1.
    Source: Philox: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The permutation:
        Black & Rogaway 2002, "Ciphers with arbitrary finite domains" (generalised Feistel and cycle walking).

    >>> sample_starts(100, seed=0, step=7, batch_size=4, context_length=9).tolist()
    [75, 32, 14, 85]
    >>> sample_starts(37, seed=0, step=0, batch_size=4, context_length=9, replacement=False).tolist()
    [3, 27, 12, 21]
    """
    n_starts = count_starts("sample_starts", n_tokens, batch_size, context_length)
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < _WORD:
            raise DataError(f"sample_starts: {name} must lie in 0 to 2^64 - 1, got {value}")
    if replacement:
        # The raw words, since numpy promises that stream for ever and those of its Generator methods not.
        words = np.random.Philox(key=np.array([seed, step], np.uint64)).random_raw(batch_size)
        return (words % np.uint64(n_starts)).astype(np.int64)
    n_windows = (n_tokens - 1) // context_length
    epoch, index = divmod(step * batch_size, n_windows)
    draws = np.arange(batch_size, dtype=np.uint64) + np.uint64(index)
    epochs = draws // np.uint64(n_windows) + np.uint64(epoch % _WORD)
    keys = _mix(_mix(epochs) + np.uint64(seed))
    windows = _permute(draws % np.uint64(n_windows), n_windows, keys)
    offsets = _mix(keys) % np.uint64(context_length)
    starts = offsets + windows * np.uint64(context_length)
    return np.minimum(starts, np.uint64(n_starts - 1)).astype(np.int64)


def count_starts(function: str, n_tokens: int, batch_size: int, context_length: int) -> int:
    """How many windows of context_length + 1 tokens there are, after checking the sizes for `function`.

    Raises: DataError on a size below 1 and on fewer tokens than one window has.
    """
    for name, value in (("batch_size", batch_size), ("context_length", context_length)):
        if value < 1:
            raise DataError(f"{function}: {name} must be 1 or more, got {value}")
    if n_tokens < context_length + 1:
        raise DataError(
            f"{function}: dataset must hold at least context_length + 1 = {context_length + 1} tokens, got {n_tokens}; "
            "lower context_length or use a longer text"
        )
    return n_tokens - context_length


def _permute(index: _Words, size: int, keys: _Words) -> _Words:
    """P(index) for the permutation P of 0 to size - 1 that each key names.

    A Feistel network permutes 0 to side^2 - 1, the least even square that is enough; whoever lands beyond
    size - 1 walks on along its cycle, which comes back below size before it repeats. Even, because every
    round over an odd side has the same parity, and half of all orders would be out of reach.
    """
    side = np.uint64((isqrt(size - 1) + 2) // 2 * 2)
    result = _feistel(index, side, keys)
    while (walking := np.flatnonzero(result >= np.uint64(size))).size:
        result[walking] = _feistel(result[walking], side, keys[walking])
    return result


def _feistel(index: _Words, side: np.uint64, keys: _Words) -> _Words:
    left, right = index // side, index % side
    for turn in range(1, _ROUNDS + 1):
        left, right = right, (left + _mix(keys + right * _GOLDEN + np.uint64(turn)) % side) % side
    return left * side + right


def _mix(x: _Words) -> _Words:
    """SplitMix64's step and finaliser (Steele et al. 2014): a bijection of 64-bit words that looks random."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
