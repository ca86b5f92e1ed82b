"""The axis glossary: every name that a shape annotation of this library may use.

A name means the same thing in every room; a test holds that no annotation uses another one.
"""

from typing import Final

AXES: Final[dict[str, str]] = {
    "batch": "any leading axes, none included; written *batch",
    "shape": "the whole shape of a tensor whose axes have no meaning to the function; written *shape",
    "seq": "positions in a sequence of tokens",
    "queries": "positions that ask, in attention",
    "keys": "positions that are asked, in attention; cached ones first",
    "cached": "positions already in a key/value cache",
    "positions": "rows of the rotary tables: the largest position + 1",
    "d_in": "features entering a linear map",
    "d_out": "features leaving a linear map",
    "d_model": "width of the residual stream",
    "d_ff": "width inside the feed-forward layer",
    "d_k": "width of one head's queries and keys",
    "d_v": "width of one head's values",
    "half": "half of d_k: one entry for each rotated pair",
    "heads": "query heads",
    "kv_heads": "key and value heads; divides heads",
    "vocab": "token ids, 0 to vocab - 1",
    "rows": "rows of a matrix parameter",
    "cols": "columns of a matrix parameter",
}
