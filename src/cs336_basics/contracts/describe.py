"""Words for values and annotations in an error."""

import re
from typing import Any


def describe(value: object) -> str:
    """A short account of a value: shape and dtype of a tensor, the same for those in a tuple or list, else its repr.

    >>> describe([1, 2])
    'list [1, 2]'
    """
    if _is_tensor(value):
        return _tensor_text(value)
    return f"{type(value).__name__} {_short(_text(value))}"


def hint_text(hint: Any) -> str:
    """An annotation as it was written, without the names of modules.

    >>> hint_text(tuple[int, ...])
    'tuple[int, ...]'
    """
    text = getattr(hint, "__name__", None) if isinstance(hint, type) and not hasattr(hint, "__args__") else None
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Z])", "", text or str(hint))


def _text(value: object) -> str:
    if _is_tensor(value):
        return _tensor_text(value)
    if isinstance(value, tuple | list) and any(map(_is_tensor, value)):
        inside = ", ".join(map(_text, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return " ".join(repr(value).split())  # on one line


def _is_tensor(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _tensor_text(value: Any) -> str:
    kind = "parameter" if type(value).__name__ == "Parameter" else type(value).__name__.lower()
    return f"{kind} {str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
