"""Special tokens in a text: taken as such, refused, or read as the ordinary text that they are made of."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Final, Literal, NamedTuple, TypeAlias

from cs336_basics.contracts import describe
from cs336_basics.tokenizer.errors import TokenizerError

Specials: TypeAlias = Literal["all", "none"] | Collection[str]
"""Special tokens to allow or to refuse: all that there are, none of them, or those named."""

_MOST_BRANCHES: Final = 12  # one inside another in a pattern; Python's compiler of patterns calls itself for each


class SpecialRule(NamedTuple):
    """What a call makes of special tokens: ids of `allowed` ones, errors of `refused` ones, ordinary text of others."""

    allowed: frozenset[str]
    refused: frozenset[str]

    def check(self, text: str, *, where: str) -> None:
        """Refuse a text that holds a refused special token, be it a part of another; `where` opens the message.

        Raises: TokenizerError naming the token, its index and both ways to mend it.
        """
        if self.refused and (match := special_pattern(self.refused).search(text)):
            raise _refusal(match.group(), match.start(), where)

    def checked(self, chunks: Iterable[str], *, where: str) -> Iterator[str]:
        """The chunks' text, each part as soon as it is sure to hold no part of a refused special token.

        Raises: TokenizerError as `check`, with the index in the whole text, when that chunk is reached.
        """
        if not self.refused:
            yield from chunks
            return
        pattern = special_pattern(self.refused)
        overlap = max(map(len, self.refused)) - 1
        held, start = "", 0  # text not passed on yet, and its index in the whole text
        for chunk in chunks:
            held += chunk
            # A token that begins before `sure` is here to its end, and so is any that would be named before it.
            sure = max(0, len(held) - overlap)
            match = pattern.search(held)
            if match and match.start() < sure:
                raise _refusal(match.group(), start + match.start(), where)
            if sure:
                yield held[:sure]
                held, start = held[sure:], start + sure
        if match := pattern.search(held):
            raise _refusal(match.group(), start + match.start(), where)
        yield held


def special_rule(special_tokens: Iterable[str], allowed: Specials, disallowed: Specials, *, where: str) -> SpecialRule:
    """The rule that `allowed_special` and `disallowed_special` ask for, with the meaning they have in tiktoken.

    `disallowed` of "all" is every special token that is not allowed. One that is both is refused.

    Raises: TokenizerError on what is neither "all", "none" nor a set of the special tokens.
    """
    known = frozenset(special_tokens)
    allowed_set = _named(allowed, known, where=f"{where}: allowed_special")
    if isinstance(disallowed, str) and disallowed == "all":
        return SpecialRule(allowed_set, known - allowed_set)
    return SpecialRule(allowed_set, _named(disallowed, known, where=f"{where}: disallowed_special"))


def _named(value: object, known: frozenset[str], *, where: str) -> frozenset[str]:
    if isinstance(value, str) and value in ("all", "none"):
        return known if value == "all" else frozenset()
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise TokenizerError(f"{where} must be 'all', 'none' or a set of special tokens, got {describe(value)}")
    for token in value:
        if not isinstance(token, str) or token not in known:  # a misspelt name would let its token pass
            raise TokenizerError(
                f"{where} must name special tokens of the tokenizer, {sorted(known)}, got {describe(token)}"
            )
    return frozenset(value)


def _refusal(token: str, index: int, where: str) -> TokenizerError:
    return TokenizerError(
        f"{where} must hold no disallowed special token, got {token!r} at index {index}; allow it by allowed_special, "
        "or read it as ordinary text by leaving it out of disallowed_special ('none' for all)"
    )


@lru_cache(maxsize=32)
def special_pattern(special_tokens: frozenset[str]) -> re.Pattern[str]:
    """Finds special tokens, the longest where several begin; there must be at least one."""
    return re.compile(_any_of(sorted(special_tokens), _MOST_BRANCHES))


def _any_of(tokens: list[str], n_branches: int) -> str:
    """A pattern for the longest of some tokens, which may branch so many times before it tries them one by one.

    Thousands of tokens, tried one by one wherever the first letter of one stands, would take seconds.
    """
    prefix = os.path.commonprefix(tokens)  # noqa: RUF071  # of any strings, as is wanted
    rests = [token[len(prefix) :] for token in tokens]
    if n_branches == 0 or len(tokens) == 1:
        branches = [re.escape(rest) for rest in sorted(rests, key=len, reverse=True)]
    else:
        groups = [list(group) for first, group in groupby(rests, lambda rest: rest[:1]) if first]
        branches = [*(_any_of(group, n_branches - 1) for group in groups), *[""] * (prefix in tokens)]
    return f"{re.escape(prefix)}(?:{'|'.join(branches)})"
