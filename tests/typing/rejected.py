"""A program that mypy --strict must reject, line by line: the comment above a line is what it must say of it.

The ignores are counted (warn_unused_ignores), so a line that mypy came to accept would fail `nox -s typecheck`;
`test_programs.py` takes the ignores away and compares the messages. Nothing here runs.
"""

from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import contract
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.attention import AttentionFn, KVCache, split_heads
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope_tables


def wrong_arguments(x: Tensor) -> None:
    # E: Argument 1 to "rms_norm" has incompatible type "str"; expected "Tensor"
    rms_norm("x", x)  # type: ignore[arg-type]  # a str is no tensor
    # E: Argument 2 to "rms_norm" has incompatible type "None"; expected "Tensor"
    rms_norm(x, None)  # type: ignore[arg-type]  # None is no tensor
    # E: Missing positional argument "weight" in call to "rms_norm"
    rms_norm(x)  # type: ignore[call-arg]  # no weight
    # E: Unexpected keyword argument "epsilon" for "rms_norm"
    rms_norm(x, x, epsilon=1e-5)  # type: ignore[call-arg]  # no such option
    # E: Argument "eps" to "rms_norm" has incompatible type "str"; expected "float"
    rms_norm(x, x, eps="small")  # type: ignore[arg-type]  # a str is no float
    # E: Missing named argument "heads" for "split_heads"
    split_heads(x)  # type: ignore[call-arg]  # no heads
    # E: Argument 1 to "rope_tables" has incompatible type "float"; expected "int"
    rope_tables(1.5, 4)  # type: ignore[arg-type]  # a float is no int


def options_are_keywords(x: Tensor) -> None:
    # E: Too many positional arguments for "rms_norm"
    rms_norm(x, x, 1e-5)  # type: ignore[call-arg]  # an option by position
    # E: Too many positional arguments for "split_heads"
    split_heads(x, 2)  # type: ignore[call-arg]  # an option by position


def wrong_results(x: Tensor) -> str:
    # E: Incompatible types in assignment (expression has type "tuple[Tensor, Tensor]", variable has type "Tensor")
    y: Tensor = rope_tables(2, 2)  # type: ignore[assignment]  # two tables are no tensor
    # E: Incompatible return value type (got "Tensor", expected "str")
    return rms_norm(y, x)  # type: ignore[return-value]  # a tensor is no str


def wrong_parts(x: Tensor) -> None:
    def half(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q + k + v

    # E: Incompatible types in assignment
    attention: AttentionFn = half  # type: ignore[assignment]  # half takes no mask
    # E: Argument "norm" to "ModelConfig" has incompatible type "Literal['middle']"
    model = TransformerLM(ModelConfig(norm="middle"), attention_fn=attention)  # type: ignore[arg-type]  # no such place
    # E: Argument 2 to "extend" of "TransformerLM" has incompatible type "KVCache"
    model.extend(x, KVCache(x, x))  # type: ignore[arg-type]  # one cache is no tuple of caches
    # E: Too many positional arguments for "ModelConfig"
    ModelConfig(100)  # type: ignore[call-arg]  # a field by position


@contract
def ours(n: int) -> str:
    # E: Incompatible return value type (got "int", expected "str")
    return n  # type: ignore[return-value]  # an int is no str


class Holder:
    @contract
    def method(self, n: int) -> str:
        return str(n)


def ones_own_functions_keep_their_types() -> None:
    # E: Argument 1 to "ours" has incompatible type "str"; expected "int"
    ours("1")  # type: ignore[arg-type]  # a str is no int
    # E: Missing positional argument "n" in call to "method" of "Holder"
    Holder().method()  # type: ignore[call-arg]  # no n
