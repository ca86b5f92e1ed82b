"""Right: axes that meet themselves on purpose, steps over a fixed number, and what torch offers ready-made."""

import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from tests.contracts.corpus.registry import right


@right
def self_distances(x: Float[Tensor, "*batch n d_model"]) -> Float[Tensor, "*batch n n"]:
    """All pairs of one set: both axes come back."""
    return (x.unsqueeze(-2) - x.unsqueeze(-3)).square().sum(-1)


@right
def self_outer_product(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n n"]:
    """x xᵀ by broadcasting."""
    return x.unsqueeze(-1) * x.unsqueeze(-2)


@right
def ranks_by_counting(x: Float[Tensor, "*batch n"]) -> Int64[Tensor, "*batch n"]:
    """How many are smaller: all pairs, one axis summed away."""
    return (x.unsqueeze(-1) > x.unsqueeze(-2)).sum(-1)


@right
def ranking_loss(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """A hinge over all pairs, written with an axis for each side: the mean is over pairs, as meant."""
    return torch.relu(1 - (x[:, None] - x[None, :])).mean()


@right
def relative_bias(
    table: Float[Tensor, "positions heads"], scores: Float[Tensor, "*batch heads seq seq"]
) -> Float[Tensor, "*batch heads seq seq"]:
    """A grid of distances picks rows of a table."""
    index = torch.arange(scores.shape[-1], device=scores.device)
    distance = (index[:, None] - index[None, :]).abs().clamp(max=table.shape[0] - 1)
    return scores + table[distance].permute(2, 0, 1)


@right
def grid_positions(x: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    """meshgrid of two axes."""
    rows, cols = (torch.arange(size, device=x.device) for size in x.shape)
    down, across = torch.meshgrid(rows, cols, indexing="ij")
    return x * (down + across)


@right
def off_diagonal(x: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """A mask from eye."""
    return x.masked_fill(torch.eye(x.shape[0], dtype=torch.bool, device=x.device), 0.0)


@right
def covariance(x: Float[Tensor, "n d_model"]) -> Float[Tensor, "d_model d_model"]:
    """Mean over axis 0 on purpose: it is the axis of samples."""
    centred = x - x.mean(0)
    return centred.mT @ centred / x.shape[0]


@right
def orthogonalised(x: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    """Three steps of Newton and Schulz."""
    y = x / (x.square().sum().sqrt() + 1e-7)
    for _ in range(3):
        y = 1.5 * y - 0.5 * (y @ y.mT) @ y
    return y


@right
def moving_average(x: Float[Tensor, "*batch 4 d_model"], *, decay: float = 0.9) -> Float[Tensor, "*batch 4 d_model"]:
    """A recurrence over an axis whose size the annotation fixes."""
    state = torch.zeros_like(x[..., 0, :])
    states = []
    for step in range(4):
        state = decay * state + (1 - decay) * x[..., step, :]
        states.append(state)
    return torch.stack(states, dim=-2)


@right
def rope_by_complex_numbers(
    angles: Float32[Tensor, "seq half"], x: Float32[Tensor, "*batch seq 2*half"]
) -> Float32[Tensor, "*batch seq 2*half"]:
    """Pairs as complex numbers."""
    pairs = x.reshape(*x.shape[:-1], angles.shape[-1], 2).contiguous()
    turned = torch.view_as_complex(pairs) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2)


@right
def rows_by_index(
    weight: Float[Tensor, "vocab d_model"], ids: Int[Tensor, "*batch seq"]
) -> Float[Tensor, "*batch seq d_model"]:
    """A table indexed by a tensor."""
    return weight[ids.long()]


@right
def one_expert_each(
    x: Float[Tensor, "n d_model"],
    router: Float[Tensor, "experts d_model"],
    weights: Float[Tensor, "experts d_out d_model"],
) -> Float[Tensor, "n d_out"]:
    """The best expert of each token, its matrix by index."""
    gate, chosen = (x @ router.mT).softmax(-1).max(-1)
    return gate[:, None] * torch.einsum("ni,noi->no", x, weights[chosen])


@right
def repetition_penalty(
    logits: Float[Tensor, "*batch vocab"], ids: Int[Tensor, "*batch seq"], *, penalty: float = 1.2
) -> Float[Tensor, "*batch vocab"]:
    """gather, where, scatter."""
    seen = logits.gather(-1, ids.long())
    return logits.scatter(-1, ids.long(), torch.where(seen > 0, seen / penalty, seen * penalty))


@right
def gumbel_argmax(logits: Float[Tensor, "*batch vocab"], *, generator: torch.Generator) -> Int64[Tensor, "*batch"]:
    """Randomness from the generator that was given."""
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    return (logits - (-uniform.clamp(min=1e-9).log()).log()).argmax(-1)


@right
def capped(x: Float[Tensor, "*shape"], *, cap: float | None = None) -> Float[Tensor, "*shape"]:
    """A branch on a setting that may be None."""
    return x if cap is None else cap * torch.tanh(x / cap)


@right
def attention_by_torch(
    q: Float[Tensor, "*batch heads queries d_k"],
    k: Float[Tensor, "*batch heads keys d_k"],
    v: Float[Tensor, "*batch heads keys d_v"],
) -> Float[Tensor, "*batch heads queries d_v"]:
    """torch's own kernel, whatever it decomposes into."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)
