"""Right: tables, gathers, scatters, sorts, windows, shifts and experts."""

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from tests.contracts.corpus.registry import right


@right
def embedding(ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Rows by index_select."""
    return weight.index_select(0, ids.reshape(-1).long()).reshape(*ids.shape, weight.shape[1])


@right
def embedding_by_one_hot(
    ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """A grid of ids and indices, in the weight's dtype, times the table."""
    hot = (ids.unsqueeze(-1) == torch.arange(weight.shape[0], device=ids.device)).to(weight.dtype)
    return hot @ weight


@right
def chosen_log_probability(
    log_p: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """gather, and squeeze of the axis it made."""
    return log_p.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)


@right
def keeps_the_largest(logits: Float[Tensor, "*batch vocab"], *, k: int = 1) -> Float[Tensor, "*batch vocab"]:
    """scatter by a sorted order."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return logits.scatter(-1, order[..., k:], -torch.inf)


@right
def keeps_the_nucleus(logits: Float[Tensor, "*batch vocab"], *, p: float = 0.9) -> Float[Tensor, "*batch vocab"]:
    """sort, cumsum, and back by scatter."""
    ordered, order = logits.float().sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    drop = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -torch.inf)


@right
def best_expert(scores: Float[Tensor, "*batch experts"]) -> tuple[Float[Tensor, "*batch 1"], Int64[Tensor, "*batch 1"]]:
    """topk over the last axis."""
    values, ids = scores.topk(1, dim=-1)
    return values, ids


@right
def experts_mixed(
    x: Float[Tensor, "*batch d_in"],
    weights: Float[Tensor, "experts d_out d_in"],
    gates: Float[Tensor, "*batch experts"],
) -> Float[Tensor, "*batch d_out"]:
    """A product with three names."""
    return torch.einsum("...i,eoi,...e->...o", x, weights, gates)


@right
def counts_of_ids(ids: Int[Tensor, "n"], like: Float[Tensor, "vocab"]) -> Float[Tensor, "vocab"]:
    """index_add into a new tensor."""
    return torch.zeros_like(like).index_add(0, ids.long(), torch.ones_like(ids, dtype=like.dtype))


@right
def sums_by_segment(
    x: Float[Tensor, "n d_model"], segments: Int[Tensor, "n"], *, rows: int
) -> Float[Tensor, "rows d_model"]:
    """In place on what was made here; the number of rows is an argument."""
    total = x.new_zeros(rows, x.shape[-1])
    total.index_add_(0, segments.long() % rows, x)
    return total


@right
def scatters_mean(
    x: Float[Tensor, "n d_model"], segments: Int[Tensor, "n"], like: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "rows d_model"]:
    """scatter_reduce along an expanded index."""
    index = segments.long().unsqueeze(-1).expand(x.shape)
    return torch.zeros_like(like).scatter_add(0, index, x)


@right
def next_token_pairs(
    tokens: Int[Tensor, "*batch seq+1"],
) -> tuple[Int[Tensor, "*batch seq"], Int[Tensor, "*batch seq"]]:
    """Inputs and targets are two views of one window."""
    return tokens[..., :-1], tokens[..., 1:]


@right
def shifted_right(tokens: Int[Tensor, "*batch seq"], *, start: int = 0) -> Int[Tensor, "*batch seq"]:
    """A start token in front, the last one dropped."""
    first = torch.full_like(tokens[..., :1], start)
    return torch.cat((first, tokens[..., :-1]), dim=-1)


@right
def rolled(tokens: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq"]:
    """roll along one axis."""
    return tokens.roll(-1, dims=-1)


@right
def token_shift(
    x: Float[Tensor, "*batch seq d_model"], mix: Float[Tensor, "d_model"]
) -> Float[Tensor, "*batch seq d_model"]:
    """RWKV's shift: zeros in x's dtype and on its device come in front."""
    before = torch.cat((torch.zeros_like(x[..., :1, :]), x[..., :-1, :]), dim=-2)
    return before + mix * (x - before)


@right
def windows(x: Float[Tensor, "*batch seq+1"]) -> Float[Tensor, "*batch seq 2"]:
    """unfold asks for strides itself."""
    return x.unfold(-1, 2, 1)


@right
def causal_convolution(
    x: Float[Tensor, "*batch seq d_model"], taps: Float[Tensor, "2 d_model"]
) -> Float[Tensor, "*batch seq d_model"]:
    """A convolution with two taps, by slices of a padded copy."""
    padded = torch.cat((x.new_zeros(*x.shape[:-2], 1, x.shape[-1]), x), dim=-2)
    return padded[..., :-1, :] * taps[0] + padded[..., 1:, :] * taps[1]


@right
def greedy(logits: Float[Tensor, "*batch vocab"]) -> Int64[Tensor, "*batch"]:
    """argmax over the last axis."""
    return logits.argmax(-1)


@right
def draws(logits: Float[Tensor, "n vocab"], *, generator: torch.Generator | None = None) -> Int64[Tensor, "n"]:
    """Randomness only where a generator is given; else the most likely one."""
    if generator is None:
        return logits.argmax(-1)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)


@right
def last_positions(
    x: Float[Tensor, "*batch seq d_model"], lengths: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch d_model"]:
    """gather along seq by an index expanded over the features."""
    last = (lengths.long() - 1).clamp(min=0)
    index = last[..., None, None].expand(*lengths.shape, 1, x.shape[-1])
    return x.gather(-2, index).squeeze(-2)


@right
def ranks(scores: Float[Tensor, "*batch n"]) -> Int64[Tensor, "*batch n"]:
    """The rank of each entry by comparing all pairs; the sum takes the second axis away again."""
    return scores.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)


@right
def allowed_only(
    logits: Float[Tensor, "*batch vocab"], allowed: Bool[Tensor, "vocab"] | None = None
) -> Float[Tensor, "*batch vocab"]:
    """where, with an optional mask."""
    return logits if allowed is None else torch.where(allowed, logits, -torch.inf)


@right
def cross_entropy(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]
) -> Float32[Tensor, "*batch"] | Float64[Tensor, "*batch"]:
    """float32 at least, whatever comes in."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.logsumexp(-1) - wide.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)
