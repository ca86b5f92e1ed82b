"""Contracts leave torch's own machinery alone: compilation, transforms, autocast, tensors without data."""

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
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


class Halves(NamedTuple):
    left: Float[Tensor, "*batch half"]
    right: Float[Tensor, "*batch half"]


@contract
def join(
    halves: Halves, *, times: int = 1, attend: Callable[[Tensor], Tensor] = torch.neg
) -> Float[Tensor, "*batch 2*half"]:
    return attend(torch.cat(halves, -1)) * times


@contract
def heads_of(
    x: Float[Tensor, "*batch heads*d_k"], *, heads: int, lose: bool = False
) -> Float[Tensor, "*batch heads d_k"]:
    return x if lose else x.reshape(*x.shape[:-1], heads, -1)


@contract
def total(parts: list[Float[Tensor, "rows"]]) -> Float[Tensor, ""]:
    return torch.stack(parts).sum()


TRACED: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...], str]] = {
    "a tensor": (lambda x: affine(x, torch.ones(4, 5)), (X,), "affine: weight must be"),
    "given by name": (lambda x: affine(weight=torch.ones(4, 5), x=x), (X,), "affine: weight must be"),
    "dtype": (lambda x: silu(x.long()), (X,), "silu: x must be Float"),
    "an option": (lambda x: silu(x, scale="2"), (X,), "silu: scale must be float"),  # type: ignore[arg-type]  # refused
    "a field": (lambda x: join(Halves(x, x[:, 1:])), (X,), "join: halves.right must be Float"),
    "a result": (lambda x: heads_of(x, heads=3, lose=True), (X,), "heads_of: the result must be Float"),
    "a product": (lambda x: heads_of(x, heads=2), (X,), "heads_of: x must be"),
    "an item": (lambda x: total([x[0], x[1, 1:]]), (X,), "total: parts\\[1\\] must be"),
    "an unknown option": (lambda x: silu(x, sharp=1), (X,), "silu: got an unexpected keyword"),  # type: ignore[call-arg]  # refused
    "a missing tensor": (lambda x: affine(x), (X,), "affine: missing a required argument"),  # type: ignore[call-arg]  # refused
}


@pytest.mark.parametrize("case", TRACED)
def test_a_wrong_call_is_refused_while_it_is_traced(case: str) -> None:
    function, args, words = TRACED[case]
    compiled = torch.compile(function, backend="eager", fullgraph=True, dynamic=True)
    with pytest.raises(ContractError, match=words):
        compiled(*args)


def test_right_calls_of_every_kind_are_traced_whole() -> None:
    def everything(x: Tensor, factor: int) -> Tensor:
        joined = join(Halves(x, x), times=factor) + join(halves=Halves(x, x), attend=torch.relu)
        heads = heads_of(joined, heads=2).sum((-1, -2)) + total([x[0], x[1]])
        return heads + affine(weight=torch.ones(4, x.shape[-1]), x=x).sum(-1)

    compiled = torch.compile(everything, backend="eager", fullgraph=True, dynamic=True)
    for width in (3, 5, 7):
        x = torch.randn(2, width)
        torch.testing.assert_close(compiled(x, 2), everything(x, 2))


def test_the_graph_for_all_sizes_computes_nothing_but_the_function() -> None:
    """Dynamo leaves comparisons of sizes in a graph for all sizes, whoever wrote them; nothing uses them."""

    def nodes(function: Callable[[Tensor, Tensor], Tensor]) -> list[str]:
        found: list[list[str]] = []

        def record(graph: GraphModule, _: list[Tensor]) -> Callable[..., object]:
            graph.graph.eliminate_dead_code()
            found.append([str(node.target) for node in graph.graph.nodes if node.op not in ("placeholder", "output")])
            return graph.forward

        torch.compiler.reset()
        compiled = torch.compile(function, backend=record, fullgraph=True, dynamic=True)
        for rows in (2, 3, 5):
            compiled(torch.ones(rows, 3), W)
        assert len(found) == 1
        return found[0]

    assert nodes(layer) == nodes(plain_layer)


def test_across_processes() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        torch.testing.assert_close(pool.apply(layer, (X, W)), layer(X, W))


def test_on_tensors_spread_over_devices() -> None:
    store = HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        x, w = (distribute_tensor(tensor, mesh, [Replicate()]) for tensor in (X, W))
        assert isinstance(layer(x, w), DTensor)
        with pytest.raises(ContractError, match="affine: weight must be"):
            affine(x, distribute_tensor(torch.ones(4, 5), mesh, [Replicate()]))
    finally:
        torch.distributed.destroy_process_group()
