"""Contracts leave torch's own machinery alone: compilation, transforms, autocast, tensors without data."""

from collections.abc import Callable, Iterator

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule

from cs336_basics.contracts import ContractError, contract

X, W = torch.ones(2, 3), torch.ones(4, 3)


def plain_affine(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return x @ weight.mT


def plain_silu(x: Float[Tensor, "*batch d_in"], *, scale: float = 1.0) -> Float[Tensor, "*batch d_in"]:
    return x * torch.sigmoid(x) * scale


affine, silu = contract(plain_affine), contract(plain_silu)


@contract
def layer(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return silu(affine(x, weight), scale=2.0)


def plain_layer(x: Tensor, weight: Tensor) -> Tensor:
    return plain_silu(plain_affine(x, weight), scale=2.0)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(W.clone())

    @contract
    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return layer(x, self.weight)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_compiles_to_one_graph_which_is_that_of_the_undecorated_function() -> None:
    assert _graphs(layer) == _graphs(plain_layer)
    assert len(_graphs(layer)) == 1
    assert len(_graphs(layer)[0]) >= 6


def test_compiles_whole_as_a_module_and_with_changing_shapes() -> None:
    module, graphs = Layer(), 0

    def count(graph: GraphModule, _: list[Tensor]) -> Callable[..., object]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    compiled = torch.compile(module, backend=count, fullgraph=True, dynamic=True)
    for rows in (2, 5, 7, 11):
        torch.testing.assert_close(compiled(torch.ones(rows, 3)), module(torch.ones(rows, 3)))
    assert graphs == 1


def test_exports() -> None:
    exported = torch.export.export(Layer(), (X,)).module()
    torch.testing.assert_close(exported(X), Layer()(X))


def test_under_vmap_each_example_is_checked() -> None:
    rows = torch.func.vmap(layer, in_dims=(0, None))
    torch.testing.assert_close(rows(X, W), layer(X, W))
    with pytest.raises(ContractError, match=r"layer: weight must be .* got tensor float32\(4, 5\)"):
        rows(X, torch.ones(4, 5))


def test_under_grad_and_jacrev() -> None:
    gradient = torch.func.grad(lambda weight: layer(X, weight).sum())(W)
    leaf = W.clone().requires_grad_()
    layer(X, leaf).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    torch.testing.assert_close(gradient, leaf.grad)
    assert torch.func.jacrev(layer)(X, W).shape == (2, 4, 2, 3)
    assert torch.autograd.gradcheck(layer, (X.double().requires_grad_(), W.double().requires_grad_()))


def test_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(X, W).dtype == torch.bfloat16


def test_on_tensors_without_data() -> None:
    assert layer(X.to("meta"), W.to("meta")).shape == (2, 4)
    with FakeTensorMode():
        assert layer(torch.empty(2, 3), torch.empty(4, 3)).shape == (2, 4)
        with pytest.raises(ContractError, match=r"got faketensor float32\(4, 5\)"):
            layer(torch.empty(2, 3), torch.empty(4, 5))


def test_with_weights_swapped_for_others() -> None:
    swapped = torch.func.functional_call(Layer(), {"weight": 2 * W}, (X,))
    torch.testing.assert_close(swapped, layer(X, 2 * W))


def _graphs(function: Callable[[Tensor, Tensor], Tensor]) -> list[list[str]]:
    """The graphs that dynamo captures of one call, each as the list of its operations."""
    graphs: list[list[str]] = []

    def record(graph: GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append([node.op if node.op == "placeholder" else str(node.target) for node in graph.graph.nodes])
        return graph.forward

    torch.compiler.reset()
    # Without fullgraph, so that a break would show as a second graph.
    result = torch.compile(function, backend=record)(X, W)
    torch.testing.assert_close(result, function(X, W))
    return graphs


def test_many_functions_compile_in_one_process() -> None:
    def contracted(name: str) -> Callable[[Tensor], Tensor]:
        @contract
        def call(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
            result: Tensor = getattr(torch, name)(x)
            return result

        call.__wrapped__.__code__ = call.__wrapped__.__code__.replace(co_name=name)  # type: ignore[attr-defined]  # functools.wraps
        return call

    names = ["sin", "cos", "tan", "exp", "sigmoid", "tanh", "abs", "neg", "floor", "ceil", "sqrt", "square", "sign"]
    assert len(names) > torch._dynamo.config.recompile_limit
    for name in names:
        compiled = torch.compile(contracted(name), backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), getattr(torch, name)(X))
