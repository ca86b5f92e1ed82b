"""A program whose calls have wrong shapes, line by line, in the manner of `rejected.py`. Nothing here runs."""

from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cs336_basics.ops.attention import scaled_dot_product_attention
from cs336_basics.ops.feed_forward import swiglu
from cs336_basics.ops.norm import rms_norm
from tests.typing.shapes import (
    Layer,
    Map,
    Pair,
    Weights,
    added,
    attend,
    dot,
    embed,
    linear,
    loss,
    matrix,
    mean,
    merge,
    picture,
    same,
    shift,
    split,
    square,
    tables,
    turn,
    use,
)


def wrong_ranks(
    x: Float[Tensor, "seq d_model"], many: Float[Tensor, "*batch d_model"], v: Float[Tensor, "d_model"]
) -> None:
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "d_model"]: 1 axis, not 2
    matrix(v)  # type: ignore[shape]  # foretold above
    # E: attend: q must be Float[Tensor, "*batch queries d_k"], got Float[Tensor, "d_model"]: 1 axis, not at least 2
    attend(v, x, x)  # type: ignore[shape]  # foretold above
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "*batch d_model"]:
    #    *batch is any number of axes
    matrix(many)  # type: ignore[shape]  # foretold above
    # E: merge: x must be Float[Tensor, "*batch heads seq d_v"], got Float[Tensor, "*batch d_model"]:
    #    *batch is any number of axes: 1 or more, not 3
    merge(many)  # type: ignore[shape]  # foretold above


def two_names_are_two_sizes(
    x: Float[Tensor, "*batch seq d_model"],
    up: Float[Tensor, "d_ff d_model"],
    down: Float[Tensor, "d_model d_ff"],
    scale: Float[Tensor, "d_ff"],
) -> None:
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_model d_ff"]:
    #    d_in is d_model, not d_ff
    linear(x, down)  # type: ignore[shape]  # foretold above
    # E: rms_norm: weight must be Float[Tensor, "d_model"], got Float[Tensor, "d_ff"]: d_model, not d_ff
    rms_norm(x, scale)  # type: ignore[shape]  # foretold above
    # E: swiglu: w2 must be Float[Tensor, "d_model d_ff"], got Float[Tensor, "d_ff d_model"]: d_model, not d_ff
    swiglu(x, up, up, up)  # type: ignore[shape]  # foretold above
    # E: square: x must be Float[Tensor, "n n"], got Float[Tensor, "d_ff d_model"]: n is d_ff, not d_model
    square(up)  # type: ignore[shape]  # foretold above


def swapped_arguments(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    ids: Int[Tensor, "*batch"],
    table: Float[Tensor, "vocab d_model"],
) -> None:
    # E: attend: k must be Float[Tensor, "*batch keys d_k"], got Float[Tensor, "*batch keys d_v"]: d_k, not d_v
    attend(q, v, k)  # type: ignore[shape]  # foretold above
    # E: scaled_dot_product_attention: k must be
    scaled_dot_product_attention(q, v, k)  # type: ignore[shape]  # foretold above
    # E: attend: v must be Float[Tensor, "*batch keys d_v"], got Float[Tensor, "*batch queries d_k"]:
    #    keys, not queries
    attend(v=q, k=k, q=q)  # type: ignore[shape]  # foretold above
    # E: embed: ids must be Int[Tensor, "*batch"], got Float[Tensor, "vocab d_model"]: Int, not Float
    embed(table, ids)  # type: ignore[shape]  # foretold above


def kinds_of_dtype(x: Float[Tensor, "*batch vocab"], ids: Int[Tensor, "*batch"], mask: Bool[Tensor, "seq"]) -> None:
    # E: loss: targets must be Int[Tensor, "*batch"], got Bool[Tensor, "seq"]: Int, not Bool
    loss(x, mask)  # type: ignore[shape]  # foretold above
    # E: same: x must be Float[Tensor, "*shape"], got Int[Tensor, "*batch"]: Float, not Int
    same(ids)  # type: ignore[shape]  # foretold above


def results_go_on(
    x: Float[Tensor, "*batch seq d_model"], up: Float[Tensor, "d_ff d_model"], ids: Int[Tensor, "*batch seq"]
) -> Tensor:
    hidden = linear(x, up)
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_ff d_model"]:
    #    d_in is d_ff, not d_model
    linear(hidden, up)  # type: ignore[shape]  # foretold above
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_ff d_model"]:
    #    d_in is d_ff, not d_model
    linear(linear(x, up), up)  # type: ignore[shape]  # foretold above
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_ff d_model"]:
    #    d_in is d_ff, not d_model
    linear(-hidden.exp() * 2 + hidden, up)  # type: ignore[shape]  # foretold above
    # E: embed: weight must be Float[Tensor, "vocab d_model"], got Float[Tensor, "*batch seq d_model"]:
    embed(ids, x)  # type: ignore[shape]  # foretold above
    # E: loss: logits must be Float[Tensor, "*batch vocab"], got
    return loss(loss(hidden, ids), ids)  # type: ignore[shape]  # foretold above


def reassigned(x: Float[Tensor, "seq d_model"], up: Float[Tensor, "d_ff d_model"], deep: bool) -> None:
    x = linear(x, up)
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_ff d_model"]:
    #    d_in is d_ff, not d_model
    linear(x, up)  # type: ignore[shape]  # foretold above
    if deep:
        x = matrix(x)
        # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_ff d_model"]: d_in is seq, not
        linear(x, up)  # type: ignore[shape]  # foretold above


def parts_of_structures(
    p: Pair, weights: Weights, q: Float[Tensor, "*batch queries d_k"], x: Float[Tensor, "*batch d_model"]
) -> None:
    # E: attend: k must be Float[Tensor, "*batch keys d_k"], got Float[Tensor, "*batch seq d_v"]: d_k, not d_v
    attend(q, p.values, p.keys)  # type: ignore[shape]  # foretold above
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_model d_ff"]:
    #    d_in is d_model, not d_ff
    linear(x, weights.down)  # type: ignore[shape]  # foretold above
    keys, values = p
    # E: Pair: values must be Float[Tensor, "*batch seq d_v"], got Float[Tensor, "*batch d_model"]:
    use(Pair(keys, x), q)  # type: ignore[shape]  # foretold above
    made = Weights(up=weights.up, down=weights.down)
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_model d_ff"]:
    #    d_in is d_model, not d_ff
    linear(x, made.down)  # type: ignore[shape]  # foretold above
    # E: Weights: down must be Float[Tensor, "d_model d_ff"], got Float[Tensor, "d_ff d_model"]: d_model, not d_ff
    Weights(weights.up, weights.up)  # type: ignore[shape]  # foretold above
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "*batch seq d_v"]:
    linear(x, values)  # type: ignore[shape]  # foretold above


def computed_sizes(
    x: Float[Tensor, "*batch seq d_model"], d: Float[Tensor, "d"], ids: Int[Tensor, "*batch seq"]
) -> None:
    first, second = shift(x)
    # E: attend: v must be Float[Tensor, "*batch keys d_v"], got Float[Tensor, "*batch seq d_model"]:
    attend(first, second, x)  # type: ignore[shape]  # foretold above
    cos, sin = tables(8, half=4)
    # E: dot: y must be Float[Tensor, "d"], got Float[Tensor, "9"]: d is 8, not 9
    dot(square(same(matrix(tables(8, half=8)[0]))), square(tables(9, half=9)[0]))  # type: ignore[shape]  # foretold above
    # E: turn: sin must be Float[Tensor, "positions half"], got Float[Tensor, "4 8"]: positions is 8, not 4
    turn(x, cos, matrix(sin))  # type: ignore[shape]  # foretold above
    # E: picture: x must be Float[Tensor, "3 height width"], got Float[Tensor, "4 8 d/24"]: 3, not 4
    picture(picture(picture(rearrange(d, "(c h w) -> c h w", c=3, h=8))))  # type: ignore[shape]  # foretold above
    # E: loss: targets must be Int[Tensor, "*batch"], got Int[Tensor, "*batch seq"]:
    loss(split(x, heads=4), ids)  # type: ignore[shape]  # foretold above
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d d"]: d_in is d_model, not d
    linear(merge(split(x, heads=4)), repeat(d, "a -> a b", b=d.shape[0]))  # type: ignore[shape]  # foretold above


def methods(layer: Layer, v: Float[Tensor, "n"], maps: Map) -> None:
    # E: forward: x must be Float[Tensor, "*batch d_in"], got Float[Tensor, ""]: 0 axes, not at least 1
    layer.forward(dot(v, v))  # type: ignore[shape]  # foretold above
    # E: transposed: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "n"]: 1 axis, not 2
    Layer.transposed(v)  # type: ignore[shape]  # foretold above
    # E: Layer: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "n"]: 1 axis, not 2
    Layer(v)  # type: ignore[shape]  # foretold above
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "layer.d_out"]: 1 axis, not 2
    matrix(layer.bias)  # type: ignore[shape]  # foretold above
    # E: maps: x must be Float[Tensor, "*batch d_in"], got Float[Tensor, ""]: 0 axes, not at least 1
    maps(dot(v, v))  # type: ignore[shape]  # foretold above


def containers(xs: list[Float[Tensor, "rows cols"]], v: Float[Tensor, "n"]) -> None:
    # E: mean: tensors must be Float[Tensor, "rows cols"], got Float[Tensor, "n"]: 1 axis, not 2
    mean([xs[0], v])  # type: ignore[shape]  # foretold above
    # E: added: tensors must be Float[Tensor, "rows cols"], got Float[Tensor, "cols rows"]: rows, not cols
    added(xs[0], matrix(xs[1]))  # type: ignore[shape]  # foretold above
    for x in xs:
        # E: dot: x must be Float[Tensor, "d"], got Float[Tensor, "rows cols"]: 2 axes, not 1
        dot(x, v)  # type: ignore[shape]  # foretold above
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "n"]: 1 axis, not 2
    _ = [matrix(v) for _ in xs]  # type: ignore[shape]  # foretold above

    def inner() -> Tensor:
        # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "n"]: 1 axis, not 2
        return matrix(v)  # type: ignore[shape]  # foretold above

    # E: dot: x must be Float[Tensor, "d"], got Float[Tensor, "rows cols"]: 2 axes, not 1
    _ = inner, lambda: dot(xs[0], v)  # type: ignore[shape]  # foretold above


def broadcasting(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    turned: Bool[Tensor, "*batch keys queries"],
    wide: Bool[Tensor, "heads *batch 1 keys"],
    other: Bool[Tensor, "*others queries keys"],
) -> None:
    # E: attend: mask must be Bool[Tensor, "*#batch #queries keys"], got Bool[Tensor, "*batch keys queries"]:
    #    keys, not queries
    attend(q, k, k, turned)  # type: ignore[shape]  # foretold above
    # E: attend: mask must be Bool[Tensor, "*#batch #queries keys"], got Bool[Tensor, "heads *batch 1 keys"]:
    #    "heads *batch" does not broadcast to *batch, which is "*batch"
    attend(q, k, k, wide)  # type: ignore[shape]  # foretold above
    # E: attend: v must be Float[Tensor, "*batch keys d_v"], got Bool[Tensor, "*others queries keys"]: Float, not Bool
    attend(q, k, other)  # type: ignore[shape]  # foretold above
    # E: attend: mask must be Bool[Tensor, "*#batch #queries keys"], got Float[Tensor, "*batch keys d_k"]: Bool, not
    attend(q, k, k, k)  # type: ignore[shape]  # foretold above


def patterns(
    x: Float[Tensor, "*batch seq d_model"], y: Float[Tensor, "seq d_model"], w: Float[Tensor, "d_ff d_model"]
) -> None:
    # E: rearrange: pattern "b s d -> b d s" does not fit "*batch seq d_model":
    #    *batch is any number of axes, which only ... can stand for
    rearrange(x, "b s d -> b d s")  # type: ignore[shape]  # foretold above
    # E: rearrange: pattern "a b c -> c b a" does not fit "seq d_model": it has 3 axes, not 2
    rearrange(y, "a b c -> c b a")  # type: ignore[shape]  # foretold above
    # E: linear: weight must be Float[Tensor, "d_out d_in"], got Float[Tensor, "d_model seq"]:
    #    d_in is d_model, not seq
    linear(x, rearrange(y, "s d -> d s"))  # type: ignore[shape]  # foretold above
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "seq d_model/2 2"]: 3 axes, not 2
    matrix(rearrange(y, "s (d two) -> s d two", two=2))  # type: ignore[shape]  # foretold above
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "d_model"]: 1 axis, not 2
    matrix(reduce(y, "s d -> d", "mean"))  # type: ignore[shape]  # foretold above
    # E: dot: y must be Float[Tensor, "d"], got Float[Tensor, "seq"]: d is d_model, not seq
    dot(reduce(y, "s d -> d", "mean"), reduce(y, "s d -> s", reduction="max"))  # type: ignore[shape]  # foretold above
    # E: matrix: x must be Float[Tensor, "rows cols"], got Float[Tensor, "seq 4 d_model"]: 3 axes, not 2
    matrix(repeat(y, "s d -> s copies d", copies=4))  # type: ignore[shape]  # foretold above
    # E: einsum: pattern "s d, f d -> s f" does not fit "seq d_model" and "seq d_ff": d is d_model, not d_ff
    einsum(y, linear(y, w), "s d, f d -> s f")  # type: ignore[shape]  # foretold above
    # E: rms_norm: weight must be Float[Tensor, "d_model"], got Float[Tensor, "d_model"]: d_model is d_ff, not d_model
    rms_norm(einsum(x, w, "... d, f d -> ... f"), reduce(w, "f d -> d", "sum"))  # type: ignore[shape]  # foretold above
    # E: rearrange: pattern "s d -> s e" does not fit "seq d_model": e is on the right side only
    rearrange(y, "s d -> s e")  # type: ignore[shape]  # foretold above
