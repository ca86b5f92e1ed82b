"""Cutting text into pre-tokens: the words, numbers and signs that no merge ever reaches across."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import regex

from cs336_basics.tokenizer.specials import special_pattern

GPT2_PATTERN: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

WINDOW: Final = 1 << 16
"""Characters cut at a time where memory must not follow the text."""

_find_pretokens: Final = regex.compile(GPT2_PATTERN).findall


class Pretokenizer:
    """Cuts text at special tokens, the longest first where several begin, then by GPT-2's pattern in between.

    The pre-tokens, joined, are the text. A special token comes out whole; nothing else ever equals one,
    for text that does is cut out.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", for the pattern.

    >>> Pretokenizer(["<|end|>"]).split("You'll see  42.<|end|>")
    ['You', "'ll", ' see', ' ', ' 42', '.', '<|end|>']
    """

    def __init__(self, special_tokens: Sequence[str] = ()) -> None:
        self._special = special_pattern(frozenset(special_tokens)) if special_tokens else None
        self._longest = max(map(len, special_tokens), default=1)

    def split(self, text: str) -> list[str]:
        """The pre-tokens of a whole text."""
        pretokens: list[str] = []
        start = 0
        for match in self._matches(text):
            pretokens += _find_pretokens(text[start : match.start()])
            pretokens.append(match.group())
            start = match.end()
        return pretokens + _find_pretokens(text[start:])

    def stream(self, chunks: Iterable[str]) -> Iterator[list[str]]:
        """The pre-tokens of the chunks joined, in lists, each as soon as no later text can change it.

        What may still change is held back: the last two pre-tokens (`'` and `l` become `'ll`) and one
        character less than the longest special token. Memory follows the longest pre-token, and it is
        cut anew only when as much again has come, so that a run without end costs linear time.
        """
        held = ""
        waiting: list[str] = []
        n_waiting = 0
        for chunk in chunks:
            for piece in windows(chunk):
                waiting.append(piece)
                n_waiting += len(piece)
                if n_waiting >= len(held):
                    settled, held = self._settle(held + "".join(waiting))
                    waiting, n_waiting = [], 0
                    yield settled
        yield self.split(held + "".join(waiting))

    def _matches(self, text: str) -> Iterable[re.Match[str]]:
        return self._special.finditer(text) if self._special else ()

    def _settle(self, text: str) -> tuple[list[str], str]:
        """The pre-tokens of `text` that hold whatever follows, and the rest of it."""
        settled: list[str] = []
        start = 0
        # A special token that begins before `sure` is here to its end, and so is any longer one.
        sure = len(text) - self._longest + 1
        for match in self._matches(text):
            if match.start() >= sure:
                break
            settled += _find_pretokens(text[start : match.start()])
            settled.append(match.group())
            start = match.end()
        end = max(start, sure)
        pretokens = _find_pretokens(text[start:end])
        held_back = sum(map(len, pretokens[-2:]))
        return settled + pretokens[:-2], text[end - held_back :]


def windows(text: str) -> Iterator[str]:
    """The text in pieces of `WINDOW` characters."""
    return (text[start : start + WINDOW] for start in range(0, len(text), WINDOW))
