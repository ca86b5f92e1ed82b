"""How a result on a device is compared with float64 on the CPU: tolerances, cases, hosts that wait.

Both sides start from the same inputs, already rounded to the dtype under test, so that every difference is made
by the computation. A case states how many times a value is rounded to the dtype on its way (`roundings`) and how
many terms its longest sums have together (`terms`); sums, norms and softmax run in float32 at least. With the unit
roundoffs u(bfloat16) = 2⁻⁸, u(float32) = 2⁻²⁴ (TensorFloat32 off), u(float64) = 2⁻⁵³ two bounds must hold:

    largest error          <= (roundings · u(dtype) + terms · u(float32 or wider)) · largest entry,
    root mean square error <= (√roundings · u(dtype) + √terms · u(float32 or wider)) / √3 · root mean square entry.

The first lets every rounding be the worst one, u, all in one direction; in the second they are independent and spread
evenly over ±u. A gradient passes through the roundings of the forward pass and its own: three times the bounds.

Here `dtype` is that of the result, which is the dtype under test but for a loss: it is float32 at least. Where a loss
L rounds a value y (its logits) to the dtype under test on the way, the first bound for L grows by the error that
this makes. Each of the roundings turns y_i into y_i (1 + δ_i) with |δ_i| <= u(dtype under test), which moves L by
Σ_i (∂L/∂y_i) y_i δ_i up to terms in u², so by at most

    roundings · u(dtype under test) · Σ_i |∂L/∂y_i · y_i|,

and that sum is taken in float64 from what the case calls `inside`: it says more than |L|, which may be near 0.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LOG: Final = logging.getLogger(__name__)

# Every GPU test file has these marks; the warning comes once, from the thread of a process's first backward pass.
ON_DEVICE: Final = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")]

DTYPES: Final = (torch.float32, torch.bfloat16)
UNIT_ROUNDOFF: Final = {torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24, torch.float64: 2.0**-53}
GRADIENT: Final = 3  # a gradient's bound, as a multiple of the value's

Tensors: TypeAlias = tuple[Tensor, ...]
F = TypeVar("F", bound=Callable[..., Any])

COVERED: Final[set[object]] = set()  # every public function and class that a GPU test names


def covers(*subjects: object) -> Callable[[F], F]:
    """Mark a test as the GPU test of these public functions or classes; test_complete.py holds the union to be all."""
    COVERED.update(subjects)
    return lambda test: test


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call: `inputs(dtype)` makes its tensors on the CPU, in the dtypes that the call would meet in a model."""

    of: Callable[..., Any]
    name: str
    inputs: Callable[[torch.dtype], Tensors]
    call: Callable[..., Tensor | Tensors]
    roundings: int
    terms: int = 0
    inside: "Inside | None" = None
    specification: Callable[..., Tensor | Tensors] | None = None  # what float64 is computed by, where not by `call`

    def __post_init__(self) -> None:
        covers(self.of)


class Inside(NamedTuple):
    """A call with one number as its result, cut where it rounds a value to the dtype under test."""

    value: Callable[..., Tensor]  # of the inputs
    rest: Callable[..., Tensor]  # of the value and the inputs

    def passed_on(self, inputs: Sequence[Tensor]) -> float:
        """Σ_i |∂L/∂y_i · y_i| in float64: the most that L moves for each unit of relative error of the value."""
        value = self.value(*inputs).detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.rest(value, *inputs), value)
        return (slope * value).abs().sum().item()


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, drawn in float64 on the CPU and rounded."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def integers(high: int, *shape: int, seed: int = 0) -> Tensor:
    """Ids in [0, high)."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def wider(dtype: torch.dtype) -> torch.dtype:
    """float32, or the dtype itself where it is wider: what sums and rotary tables are kept in."""
    return torch.promote_types(dtype, torch.float32)


class Bound(NamedTuple):
    """The errors allowed, relative to the largest and to the root mean square entry of the reference."""

    worst: float
    typical: float


def bound(dtype: torch.dtype, *, roundings: int, terms: int = 0, factor: float = 1) -> Bound:
    """What the docstring of this file derives, times `factor`."""
    narrow, wide = UNIT_ROUNDOFF[dtype], UNIT_ROUNDOFF[wider(dtype)]
    return Bound(
        factor * (roundings * narrow + terms * wide),
        factor * (roundings**0.5 * narrow + terms**0.5 * wide) / 3**0.5,
    )


def assert_close(got: Tensor, reference: Tensor, *, device: torch.device, within: Bound, what: str) -> None:
    """The result lies on its device and within the bounds; infinities stand at the same places, integers are equal.

    What part of both bounds was used is logged (`pytest --log-cli-level=INFO`).
    """
    assert got.device == device, f"{what}: on {got.device}, must be on {device}"
    assert got.shape == reference.shape, f"{what}: {tuple(got.shape)}, must be {tuple(reference.shape)}"
    if not reference.is_floating_point():
        assert torch.equal(got.cpu(), reference), f"{what}: differs from the CPU"
        return
    wide, infinite = got.detach().double().cpu(), reference.isinf()
    assert torch.equal(wide[infinite], reference[infinite]), f"{what}: infinities elsewhere than on the CPU"
    exact = reference[~infinite]
    error = wide[~infinite] - exact
    worst = _part(error.abs().max(), exact.abs().max(), within.worst)
    # One number has no typical error.
    typical = (
        _part(error.square().mean().sqrt(), exact.square().mean().sqrt(), within.typical) if len(exact) > 1 else 0.0
    )
    LOG.info("%s: used %.3f of the worst, %.3f of the typical error", what, worst, typical)
    # A NaN must fail, so: not (part > 1).
    assert worst <= 1, f"{what}: {worst:.3g} times the worst error allowed"
    assert typical <= 1, f"{what}: {typical:.3g} times the typical error allowed"


def _part(error: Tensor, scale: Tensor, allowed: float) -> float:
    return error.item() / (scale.item() * allowed) if error != 0 else 0.0


def check(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    """Value and gradients of a case on the device against float64 on the CPU."""
    inputs = case.inputs(dtype)
    found = _value_and_gradients(case.call, [tensor.to(device) for tensor in inputs])
    exact = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    reference = _value_and_gradients(case.specification or case.call, exact)
    for kind, factor in (("result", 1), ("gradient", GRADIENT)):
        for index, (got, want) in enumerate(zip(found[kind], reference[kind], strict=True)):
            # A loss in float32 of logits in bfloat16 keeps what float32 can; its gradient has been through both.
            rounded_to = got.dtype if kind == "result" and got.is_floating_point() else dtype
            within = bound(rounded_to, roundings=case.roundings, terms=case.terms, factor=factor)
            if kind == "result" and case.inside is not None:
                moved = case.roundings * UNIT_ROUNDOFF[dtype] * case.inside.passed_on(exact)
                within = within._replace(worst=within.worst + moved / want.abs().item())
            assert_close(got, want, device=device, within=within, what=f"{case.name}, {dtype}, {kind} {index}")


def _value_and_gradients(call: Callable[..., Tensor | Tensors], inputs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    leaves = [tensor.detach().clone().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    returned = call(*leaves)
    results = [returned] if isinstance(returned, Tensor) else list(returned)
    rooted = [result for result in results if result.requires_grad]
    floating = [leaf for leaf in leaves if leaf.requires_grad]
    gradients: list[Tensor] = []
    if rooted:
        # One drawing of weights for all dtypes and devices: those of bfloat16, which all represent.
        weights = [normal(*r.shape, seed=9, dtype=torch.bfloat16).to(r.device, r.dtype) for r in rooted]
        found: tuple[Tensor | None, ...] = torch.autograd.grad(rooted, floating, weights, allow_unused=True)
        gradients = [gradient for gradient in found if gradient is not None]
    return {"result": [result.detach() for result in results], "gradient": gradients}


@contextmanager
def no_synchronisation(device: torch.device) -> Iterator[None]:
    """Inside, nothing may make the host wait for the device: RuntimeError where it does.

    On CUDA torch itself watches (reads by the host, copies from memory that is not pinned, sizes that depend on data);
    on the CPU, where nothing waits, the operations that would are refused by name.
    """
    if device.type != "cuda":
        with _RefuseHostReads():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the watch is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _RefuseHostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # so too
    NAMES = frozenset({"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2"})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in self.NAMES:
            raise RuntimeError(f"called a synchronizing operation: {name}")
        return func(*args, **(kwargs or {}))
