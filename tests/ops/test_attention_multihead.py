"""multihead_self_attention against one head and one position at a time; groups of heads; the cache."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.attention import (
    KVCache,
    RopeTables,
    multihead_self_attention,
    scaled_dot_product_attention,
)
from cs336_basics.ops.rope import rope_tables
from tests.ops.numerics import (
    DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_strides,
    normal,
)

D_MODEL, HEADS, D_K, SEQ = 6, 4, 4, 7
TABLES = RopeTables(*rope_tables(64, D_K, theta=100.0, dtype=torch.float64))
seeds = st.integers(0, 2**32)
grouped = st.sampled_from([1, 2, 4])


def weights(kv_heads: int = HEADS, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, output."""
    q = normal(HEADS * D_K, D_MODEL, seed=seed + 1)
    k, v = normal(2, kv_heads * D_K, D_MODEL, seed=seed + 2)
    return q, k, v, normal(D_MODEL, HEADS * D_K, seed=seed + 3)


def attend(x: Tensor, w: tuple[Tensor, Tensor, Tensor, Tensor], **options: Any) -> Tensor:
    return multihead_self_attention(x, *w, **{"heads": HEADS, **options})[0]


def full(kv_heads: int = 2) -> dict[str, Any]:
    """Every option that changes the function."""
    norms = normal(2, D_K, seed=9)
    return {"kv_heads": kv_heads, "tables": TABLES, "q_norm": norms[0], "k_norm": norms[1], "norm_eps": 0.1}


def by_hand(
    x: Tensor,
    w: tuple[Tensor, Tensor, Tensor, Tensor],
    *,
    kv_heads: int,
    positions: list[int] | None = None,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    norm_eps: float = 0.0,
) -> Tensor:
    """One batch entry, head, query and key at a time; a pair of features is a complex number."""

    def prepare(vector: Tensor, norm: Tensor | None, position: int) -> Tensor:
        if norm is not None:
            vector = vector / math.sqrt(sum(e * e for e in vector.tolist()) / D_K + norm_eps) * norm
        if positions is None:
            return vector
        turned = [
            complex(*vector[2 * j : 2 * j + 2].tolist())
            * complex(math.cos(position * 100.0 ** (-2 * j / D_K)), math.sin(position * 100.0 ** (-2 * j / D_K)))
            for j in range(D_K // 2)
        ]
        return torch.tensor([part for c in turned for part in (c.real, c.imag)], dtype=torch.float64)

    y = []
    for i in range(x.shape[0]):
        concatenated = []
        for h in range(HEADS):
            g = h // (HEADS // kv_heads)
            ours, theirs = slice(h * D_K, (h + 1) * D_K), slice(g * D_K, (g + 1) * D_K)
            place = [0] * x.shape[0] if positions is None else positions
            q = prepare(w[0][ours] @ x[i], q_norm, place[i])
            scores = [float(q @ prepare(w[1][theirs] @ x[j], k_norm, place[j])) / math.sqrt(D_K) for j in range(i + 1)]
            total = sum(math.exp(s) for s in scores)
            values = [math.exp(s) / total * (w[2][theirs] @ x[j]) for j, s in enumerate(scores)]
            concatenated.append(torch.stack(values).sum(0))
        y.append(w[3] @ torch.cat(concatenated))
    return torch.stack(y)


@pytest.mark.parametrize("fuse_qkv", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("positions", [None, list(range(SEQ)), [5, 5, 0, 63, 2, 1, 9]])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_by_hand(kv_heads: int, positions: list[int] | None, qk_norm: bool, fuse_qkv: bool) -> None:
    x, w = normal(2, SEQ, D_MODEL), weights(kv_heads)
    norms = {k: v for k, v in full().items() if "norm" in k} if qk_norm else {}
    place: dict[str, Any] = {} if positions is None else {"tables": TABLES, "token_positions": torch.tensor(positions)}
    y = attend(x, w, kv_heads=kv_heads, fuse_qkv=fuse_qkv, **norms, **place)
    truth = torch.stack([by_hand(row, w, kv_heads=kv_heads, positions=positions, **norms) for row in x])
    torch.testing.assert_close(y, truth, rtol=1e-12, atol=1e-12)


def test_positions_count_from_zero_unless_given() -> None:
    x, w = normal(2, SEQ, D_MODEL), weights(2)
    assert torch.equal(attend(x, w, **full()), attend(x, w, **full(), token_positions=torch.arange(SEQ)))
    # Only differences of positions count.
    later = attend(x, w, **full(), token_positions=torch.arange(SEQ) + 50)
    torch.testing.assert_close(attend(x, w, **full()), later, rtol=1e-12, atol=1e-12)
    # Each row of a batch may have its own.
    own = torch.stack((torch.arange(SEQ), torch.arange(SEQ).flip(0) * 3))
    both = attend(x, w, **full(), token_positions=own)
    for row in range(2):
        one = attend(x[row], w, **full(), token_positions=own[row])
        torch.testing.assert_close(both[row], one, rtol=1e-12, atol=1e-12)


@given(seed=seeds, kv_heads=grouped)
@settings(deadline=None, max_examples=20)
def test_grouped_heads_are_repeated_ones(seed: int, kv_heads: int) -> None:
    x, (q, k, v, out) = normal(2, SEQ, D_MODEL, seed=seed), weights(kv_heads, seed=seed)

    groups = [h // (HEADS // kv_heads) for h in range(HEADS)]

    def repeated(weight: Tensor) -> Tensor:
        return torch.cat([weight[g * D_K : (g + 1) * D_K] for g in groups])

    explicit = attend(x, (q, repeated(k), repeated(v), out), tables=TABLES)
    torch.testing.assert_close(attend(x, (q, k, v, out), kv_heads=kv_heads, tables=TABLES), explicit)


@given(seed=seeds, kv_heads=grouped)
@settings(deadline=None, max_examples=20)
def test_one_fused_product_gives_the_same(seed: int, kv_heads: int) -> None:
    x, w = normal(2, SEQ, D_MODEL, seed=seed), weights(kv_heads, seed=seed)
    y, cache = multihead_self_attention(x, *w, heads=HEADS, **full(kv_heads))
    fused, fused_cache = multihead_self_attention(x, *w, heads=HEADS, **full(kv_heads), fuse_qkv=True)
    torch.testing.assert_close((fused, *fused_cache), (y, *cache), rtol=1e-12, atol=1e-12)


@given(seed=seeds, cuts=st.sets(st.integers(1, SEQ - 1)), kv_heads=grouped, fuse_qkv=st.booleans(), own=st.booleans())
@settings(deadline=None, max_examples=40)
def test_any_split_over_a_cache_gives_the_same(
    seed: int, cuts: set[int], kv_heads: int, fuse_qkv: bool, own: bool
) -> None:
    x, w, options = normal(2, SEQ, D_MODEL, seed=seed), weights(kv_heads, seed=seed), full(kv_heads)
    positions = torch.randperm(64, generator=torch.Generator().manual_seed(seed))[:SEQ] if own else None
    whole, whole_cache = multihead_self_attention(
        x, *w, heads=HEADS, **options, fuse_qkv=fuse_qkv, token_positions=positions
    )
    cache: KVCache | None = None
    parts = []
    edges = [0, *sorted(cuts), SEQ]
    for start, end in itertools.pairwise(edges):
        held = None if cache is None else KVCache(cache.keys.clone(), cache.values.clone())
        part, grown = multihead_self_attention(
            x[:, start:end],
            *w,
            heads=HEADS,
            **options,
            fuse_qkv=fuse_qkv,
            cache=cache,
            token_positions=None if positions is None else positions[start:end],
        )
        if cache is not None and held is not None:
            assert torch.equal(cache.keys, held.keys), "a cache is a value"
            assert torch.equal(cache.values, held.values), "a cache is a value"
        cache = grown
        assert cache.length == end
        assert cache.keys.shape == cache.values.shape == (2, kv_heads, end, D_K)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cache, whole_cache, rtol=1e-12, atol=1e-12)


@given(seed=seeds, cut=st.integers(1, SEQ - 1), dtype=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=25)
def test_no_future_changes_a_bit_of_the_past(seed: int, cut: int, dtype: torch.dtype) -> None:
    w = weights(2, seed=seed)
    w = (w[0].to(dtype), w[1].to(dtype), w[2].to(dtype), w[3].to(dtype))
    past = normal(2, SEQ, D_MODEL, seed=seed, dtype=dtype)
    future = past.clone()
    future[:, cut:] = 2e3 if dtype == torch.float16 else 1e30
    before, after = (attend(x, w, kv_heads=2, tables=TABLES)[:, :cut] for x in (past, future))
    assert before.dtype == dtype
    assert after.isfinite().all()
    assert torch.equal(before, after)


@pytest.mark.parametrize("dtype", DTYPES)
def test_within_ulps_of_the_largest_entry(dtype: torch.dtype) -> None:
    x, w = normal(2, SEQ, D_MODEL, dtype=dtype), [t.to(dtype) for t in weights(2)]
    y = attend(x, (w[0], w[1], w[2], w[3]), kv_heads=2, tables=TABLES)
    wide = attend(x.double(), (w[0].double(), w[1].double(), w[2].double(), w[3].double()), kv_heads=2, tables=TABLES)
    # Five roundings of half an ULP on the way: projection, turn, score, value, output.
    assert (y.double() - wide).abs().max() <= 2.5 * torch.finfo(dtype).eps * wide.abs().max()


def test_the_attention_function_is_the_callers() -> None:
    calls: list[tuple[torch.Size, torch.Size, torch.Size, bool]] = []

    def doubled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        calls.append((q.shape, k.shape, v.shape, is_causal))
        return 2 * scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)

    x, w = normal(3, SEQ, D_MODEL), weights(2)
    torch.testing.assert_close(attend(x, w, kv_heads=2, attention_fn=doubled), 2 * attend(x, w, kv_heads=2))
    assert calls == [((3, HEADS, SEQ, D_K),) * 3 + (True,)]


@pytest.mark.parametrize("fuse_qkv", [True, False])
def test_laws(fuse_qkv: bool) -> None:
    x, w, options = normal(2, 2, D_MODEL), weights(2), {**full(), "fuse_qkv": fuse_qkv}
    _, cache = multihead_self_attention(normal(2, 1, D_MODEL, seed=5), *w, heads=HEADS, **options)

    def cached(x: Tensor, keys: Tensor, values: Tensor, *w: Tensor) -> tuple[Tensor, KVCache]:
        return multihead_self_attention(x, w[0], w[1], w[2], w[3], heads=HEADS, cache=KVCache(keys, values), **options)

    assert_gradients(lambda *args: cached(*args)[0], x[0], cache.keys[0], cache.values[0], *w)
    assert_batches(cached, x, *cache, *w, mapped=(True, True, True, False, False, False, False))
    assert_strides(cached, x, *cache, *w)
    assert_compiles(multihead_self_attention, x, *w, heads=HEADS, cache=cache, **options)


W = weights()
X = normal(2, 3, D_MODEL)
CACHE = KVCache(normal(2, HEADS, 3, D_K), normal(2, HEADS, 3, D_K))


def changed(index: int, weight: Tensor, **options: Any) -> Callable[[], Tensor]:
    """A call with one weight replaced."""
    w = [*W]
    w[index] = weight
    return lambda: attend(X, (w[0], w[1], w[2], w[3]), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attend(X[0, 0], W), r"^multihead_self_attention: x must be .*'\*batch seq d_model'.*\(6,\)$"),
        (lambda: attend(X.long(), W), r"^multihead_self_attention: x must be Float.*int64"),
        (lambda: attend(X.float(), W), r"^linear: weight must have x's dtype torch.float32, got torch.float64$"),
        (changed(0, W[0].mT), r"^multihead_self_attention: q_weight must be .*'heads\*d_k d_model'.*\(6, 16\)$"),
        (changed(1, W[1][:, 1:]), r"^multihead_self_attention: k_weight must be .*'kv_heads\*d_k d_model'.*\(16, 5\)$"),
        (changed(2, W[2][:4]), r"^multihead_self_attention: output_weight must be .*d_v=1.*\(6, 16\)$"),
        (changed(3, W[3].mT), r"^multihead_self_attention: output_weight must be .*'d_model heads\*d_v'.*\(16, 6\)$"),
        (lambda: attend(X, W, heads=3), r"^multihead_self_attention: q_weight must be .*heads=3.*\(16, 6\)$"),
        (lambda: attend(X, W, kv_heads=3), r"^multihead_self_attention: k_weight must be .*kv_heads=3.*\(16, 6\)$"),
        (
            lambda: attend(X, W, kv_heads=2),
            r"^multihead_self_attention: k_weight must be .*kv_heads=2.*d_k=4.*\(16, 6\)$",
        ),
        (lambda: attend(X, weights(3), kv_heads=3), r"^repeat_kv: heads must be a multiple of kv_heads = 3, got 4$"),
        (lambda: attend(X, W, q_norm=normal(3)), r"^multihead_self_attention: q_norm must be .*d_k=4.*\(3,\)$"),
        (
            lambda: attend(X, W, tables=RopeTables(*rope_tables(2, D_K))),
            r"^multihead_self_attention: x must end within the 2 positions of the tables, got 3$",
        ),
        (
            lambda: attend(X, W, tables=RopeTables(*rope_tables(5, D_K)), cache=CACHE),
            r"^multihead_self_attention: x must end within the 5 positions of the tables, got 6$",
        ),
        (lambda: attend(X, W, tables=rope_tables(5, D_K)), r"^multihead_self_attention: tables must be .*RopeTables"),
        (
            lambda: attend(X, W, tables=RopeTables(*rope_tables(5, 2))),
            r"^multihead_self_attention: tables must be 4 / 2 wide, got 1$",
        ),
        (
            lambda: attend(X, W, tables=TABLES, token_positions=torch.arange(2)),
            r"^multihead_self_attention: token_positions must be .*seq=3.*int64\(2,\)$",
        ),
        (
            lambda: attend(X, W, tables=TABLES, token_positions=torch.arange(3) + 62),
            r"^rope: token_positions must be in \[0, 64\)",
        ),
        (
            lambda: attend(X[:1], W, cache=CACHE),
            r"^multihead_self_attention: cache.keys must be .*kv_heads=4.*batch=\(1,\), got .*\(2, 4, 3, 4\)$",
        ),
        (lambda: attend(X[0], W, cache=CACHE), r"cache.keys must be .*kv_heads=4.*batch=\(\), got .*\(2, 4, 3, 4\)$"),
        (
            lambda: attend(X, weights(2), kv_heads=2, cache=CACHE),
            r"^multihead_self_attention: cache.keys must be .*kv_heads=2.* got tensor float64\(2, 4, 3, 4\)$",
        ),
        (
            lambda: attend(X, W, cache=KVCache(CACHE.keys, CACHE.values[..., :1])),
            r"^multihead_self_attention: cache.values must be .*d_v=4.* got tensor float64\(2, 4, 3, 1\)$",
        ),
        (
            lambda: attend(X, W, cache=KVCache(CACHE.keys, CACHE.values[..., 1:, :])),
            r"^multihead_self_attention: cache.values must be .*cached=3.*\(2, 4, 2, 4\)$",
        ),
        (
            lambda: attend(X.float(), tuple(t.float() for t in W), cache=CACHE),  # type: ignore[arg-type]  # a tuple of any length
            r"^scaled_dot_product_attention: k must have q's dtype torch.float32, got torch.float64$",
        ),
        (lambda: attend(X, W, cache=(CACHE.keys, CACHE.values)), r"^multihead_self_attention: cache must be .*KVCache"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
