"""What a model must survive: other dtypes and devices, copies, compilation, odd and wrong input."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import ContractError
from cs336_basics.nn import RotaryEmbedding, TransformerLM
from cs336_basics.ops.rope import rope_tables

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "context_length": 12,
    "d_model": 16,
    "n_heads": 4,
    "n_layers": 2,
    "d_ff": 24,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "other": {"norm": "post", "ffn": "silu", "n_kv_heads": 2, "qk_norm": True, "fuse_qkv": True},
    "bare": {"norm": "none", "position": "none", "tie_embeddings": True},
}
EVERY = pytest.mark.parametrize("variant", VARIANTS)
IDS = torch.randint(30, (2, 9), generator=torch.Generator().manual_seed(7))


def test_all_layers_share_one_pair_of_rotary_tables() -> None:
    model = _model()
    assert len({id(rotary) for rotary in _rotaries(model)}) == 1
    assert len(_rotaries(model)) == 2
    assert sum(buffer.numel() for buffer in model.buffers()) == 2 * 12 * 2
    assert not any("rotary" in key for key in model.state_dict())


@pytest.mark.parametrize(
    ("move", "dtype"),
    [
        (lambda model: model.bfloat16(), torch.float32),
        (lambda model: model.half(), torch.float32),
        (lambda model: model.double(), torch.float64),
        (lambda model: model.bfloat16().double(), torch.float64),
        (lambda model: model.double().float(), torch.float32),
        (lambda model: model.to(torch.bfloat16), torch.float32),
        (lambda model: model.type(torch.float64), torch.float64),
        (copy.deepcopy, torch.float32),
        (lambda model: pickle.loads(pickle.dumps(model)), torch.float32),  # noqa: S301  # our own bytes
    ],
)
def test_rotary_tables_stay_shared_and_exact(move: Callable[[nn.Module], TransformerLM], dtype: torch.dtype) -> None:
    rotaries = _rotaries(move(_model()))
    assert len({id(rotary) for rotary in rotaries}) == 1
    for table, exact in zip(rotaries[0].tables, rope_tables(12, 4, dtype=torch.float64), strict=True):
        assert table.dtype == dtype
        assert torch.equal(table, exact.to(dtype))


@EVERY
@pytest.mark.parametrize("how", ["argument", "context"])
def test_a_model_made_on_meta_and_filled_is_the_model(variant: str, how: str) -> None:
    model = _model(variant)
    if how == "argument":
        shell = TransformerLM(model.config, device="meta")
        assert all(tensor.is_meta for tensor in [*shell.parameters(), *shell.buffers()])
        assert shell(IDS.to("meta")).shape == (2, 9, 30)
    else:
        with torch.device("meta"):
            shell = TransformerLM(model.config)
        assert all(tensor.is_meta for tensor in shell.parameters())
    shell.to_empty(device="cpu")
    shell.load_state_dict(model.state_dict())
    assert torch.equal(shell(IDS), model(IDS))


@EVERY
def test_copies_and_pickles(variant: str) -> None:
    model = _model(variant)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  # our own bytes
        assert torch.equal(twin(IDS), model(IDS))
        with torch.no_grad():
            twin.token_embeddings.weight.zero_()
        assert not torch.equal(twin(IDS), model(IDS)), "a copy shares no weight"


@EVERY
def test_compiles_whole(variant: str) -> None:
    model = _model(variant)
    torch.compiler.reset()
    # No generated code, so the very same operations: equal to the bit.
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(IDS), model(IDS))
    extend = torch.compile(model.extend, fullgraph=True, backend="eager")
    with torch.no_grad():
        _, cache = model.extend(IDS[:, :5])
        assert torch.equal(extend(IDS[:, 5:], cache)[0], model.extend(IDS[:, 5:], cache)[0])


def test_compiled_gradients_are_the_plain_ones() -> None:
    model = TransformerLM(ModelConfig(**{**SIZES, "n_layers": 1}))
    torch.compiler.reset()
    gradients = []
    for function in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        function(IDS).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-7)


def test_vmap_over_weights_is_an_ensemble() -> None:
    models = [_model(seed=seed) for seed in (1, 2)]
    stacked = {key: torch.stack([model.state_dict()[key] for model in models]) for key in models[0].state_dict()}

    def call(weights: dict[str, Tensor]) -> Any:
        return torch.func.functional_call(models[0], weights, (IDS,))

    logits = torch.func.vmap(call)(stacked)
    torch.testing.assert_close(logits, torch.stack([model(IDS) for model in models]), rtol=1e-5, atol=1e-5)


def test_autocast_computes_in_bfloat16_and_keeps_float32_weights() -> None:
    model = _model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(IDS)
    assert logits.dtype == torch.bfloat16
    error = (logits.float() - model(IDS)).abs().max() / model(IDS).abs().max()
    assert error < 0.05
    logits.float().square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@EVERY
def test_odd_batches(variant: str) -> None:
    model = _model(variant)
    whole = model(IDS)
    torch.testing.assert_close(model(IDS[0]), whole[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(IDS.reshape(1, 2, 1, 9)), whole.reshape(1, 2, 1, 9, 30), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(IDS.to(torch.int32)), whole, rtol=0, atol=0)
    assert model(IDS[:0]).shape == (0, 9, 30)


@EVERY
def test_the_context_ends_where_the_config_says(variant: str) -> None:
    model = _model(variant)
    message = r"^transformer_lm: ids must end within context_length = 12, got 13$"
    with pytest.raises(ContractError, match=message):
        model(torch.zeros(2, 13, dtype=torch.long))
    _, cache = model.extend(torch.zeros(2, 12, dtype=torch.long))
    with pytest.raises(ContractError, match=message):
        model.extend(torch.zeros(2, 1, dtype=torch.long), cache)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            torch.zeros(2, 3),
            r"(TransformerLM.forward|transformer_lm): ids must be Int\[Tensor, '\*batch seq'\], got tensor float32",
        ),
        (
            torch.tensor(3),
            r"(TransformerLM.forward|transformer_lm): ids must be Int\[Tensor, '\*batch seq'\], got tensor int64\(\)",
        ),
        (
            [[1, 2]],
            r"(TransformerLM.forward|transformer_lm): ids must be Int\[Tensor, '\*batch seq'\], got list \[\[1, 2\]\]",
        ),
        (torch.tensor([[30]]), r"embedding: ids must be in \[0, 30\)"),
        (torch.tensor([[-1]]), r"embedding: ids must be in \[0, 30\)"),
        (torch.zeros(2, 0, dtype=torch.long), "at least one key"),
    ],
)
def test_refuses_ids_that_are_none(ids: object, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        _model()(ids)


def test_refuses_a_cache_of_another_model() -> None:
    _, cache = _model().extend(IDS[:, :3])
    other = TransformerLM(ModelConfig(**{**SIZES, "n_layers": 1}))
    with pytest.raises(ContractError, match="cache must have 1 layers, got 2"):
        other.extend(IDS[:, 3:], cache)
    with pytest.raises(
        ContractError, match=r"(extend|transformer_lm): cache must be tuple\[KVCache, ...\] \| None where .* got list"
    ):
        _model().extend(IDS, list(cache))  # type: ignore[arg-type]  # refused by mypy too


def _model(variant: str = "default", *, seed: int = 0) -> TransformerLM:
    generator = torch.Generator().manual_seed(seed)
    return TransformerLM(ModelConfig(**SIZES, **VARIANTS[variant]), generator=generator)


def _rotaries(model: TransformerLM) -> list[RotaryEmbedding]:
    found = [layer.attn.rotary for layer in model.layers]  # type: ignore[union-attr]  # a ModuleList has no element type
    return [rotary for rotary in found if isinstance(rotary, RotaryEmbedding)]
