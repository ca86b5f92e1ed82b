"""The list form: the same update for every tensor."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from cs336_basics.contracts import ContractError
from cs336_basics.optim import AdamWState, adamw_init, adamw_update, update_each

OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def three() -> tuple[list[Tensor], list[Tensor], list[AdamWState]]:
    shapes: list[tuple[int, ...]] = [(2, 3), (), (4,)]
    params = [torch.randn(shape) for shape in shapes]
    return params, [torch.randn(shape) for shape in shapes], [adamw_init(param) for param in params]


def test_is_the_update_of_each() -> None:
    params, grads, states = three()
    new_params, new_states = update_each(adamw_update, params, grads, states, **OPTIONS)
    for n in range(3):
        param, state = adamw_update(params[n], grads[n], states[n], **OPTIONS)
        assert torch.equal(new_params[n], param)
        assert torch.equal(new_states[n].exp_avg_sq, state.exp_avg_sq)


def test_skips_a_missing_gradient() -> None:
    params, grads, states = three()
    new_params, new_states = update_each(adamw_update, params, [grads[0], None, grads[2]], states, **OPTIONS)
    assert new_params[1] is params[1]
    assert new_states[1] is states[1]
    assert [state.step for state in new_states] == [1, 0, 1]


def test_of_nothing_is_nothing() -> None:
    assert update_each(adamw_update, [], [], [], **OPTIONS) == ([], [])


def test_refuses_lists_of_different_lengths() -> None:
    params, grads, states = three()
    with pytest.raises(ContractError, match="must be of one length, got 3, 2, 3"):
        update_each(adamw_update, params, grads[:2], states, **OPTIONS)


def test_traces_in_one_graph() -> None:
    counter = CompileCounter()

    def step(
        params: list[Tensor], grads: list[Tensor], states: list[AdamWState], lr: float
    ) -> tuple[list[Tensor], list[AdamWState]]:
        return update_each(adamw_update, params, grads, states, **{**OPTIONS, "lr": lr})

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    params, grads, states = three()
    expected, expected_states = params, states
    for count in range(1, 12):
        params, states = compiled(params, grads, states, 1e-2 / count)
        expected, expected_states = step(expected, grads, expected_states, 1e-2 / count)
    assert all(torch.allclose(ours, theirs, rtol=1e-6) for ours, theirs in zip(params, expected, strict=True))
    assert counter.frame_count <= 2
