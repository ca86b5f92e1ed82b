# numba has no types of its own: what tokenizer/fast uses of it.
from collections.abc import Callable
from typing import Any, TypeVar

from numba import types as types

_F = TypeVar("_F", bound=Callable[..., Any])

def njit(
    *,
    nogil: bool = ...,
    cache: bool = ...,
    error_model: str = ...,
    forceinline: bool = ...,
    inline: str = ...,
    no_cfunc_wrapper: bool = ...,
    no_cpython_wrapper: bool = ...,
    no_rewrites: bool = ...,
    pipeline_class: Any = ...,
) -> Callable[[_F], _F]: ...

int64: Any
uint64: Any
int32: Any
uint32: Any
uint16: Any
uint8: Any
