"""Two honest yardsticks for a language model on the same bytes: token frequencies, and a general compressor."""

import lzma

import numpy as np

from cs336_basics.contracts import require


def unigram_nats(train: np.ndarray, valid: np.ndarray, *, vocab_size: int) -> float:
    """-Σ_t log p(valid_t), with p(v) = (count of v in train + 1) / (len(train) + vocab_size).

    Units:  nats over all of `valid`.
    Raises: ContractError where valid is empty.
    Source: Laplace's rule; what a model knows that has learned frequencies and nothing of order.

    >>> round(unigram_nats(np.array([0, 0]), np.array([0]), vocab_size=2), 6)  # -log(3/4)
    0.287682
    """
    require(len(valid) > 0, "unigram_nats: valid must hold at least one token, got none")
    counts = np.bincount(train, minlength=vocab_size) + 1
    return float(-np.log(counts[valid] / counts.sum()).sum())


def xz_bits_per_byte(train: bytes, valid: bytes) -> float:
    """8 · (|xz(train + valid)| - |xz(train)|) / |valid|: what xz needs for valid once it has seen train.

    Units:  bits per byte, at xz's highest setting with a dictionary that holds both.
    Raises: ContractError where valid is empty.
    Source: Cilibrasi & Vitányi 2005, doi:10.1109/TIT.2005.844059, conditional compression.
    """
    require(len(valid) > 0, "xz_bits_per_byte: valid must hold at least one byte, got none")
    dictionary = min(max(1 << 16, len(train) + len(valid)), 1 << 30)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]

    def size(text: bytes) -> int:
        return len(lzma.compress(text, format=lzma.FORMAT_XZ, filters=filters))

    return 8 * (size(train + valid) - size(train)) / len(valid)
