"""What every Optimizer wrapper must survive: saving, copying, groups, missing gradients, closures, bad parameters."""

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from cs336_basics.contracts import ContractError
from cs336_basics.optim import (
    SGD,
    AdamW,
    Muon,
    adamw_init,
    adamw_update,
    muon_init,
    muon_update,
    sgd_init,
    sgd_update,
)
from tests.optim.wrappers import (
    Make,
    assert_same,
    every,
    parameters,
    through_file,
    train,
)

PURE: dict[type[Optimizer], tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    SGD: (sgd_init, sgd_update, {"momentum": 0.9, "weight_decay": 0.1, "lr_decay": "inverse_sqrt"}),
    AdamW: (adamw_init, adamw_update, {"betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.01}),
    Muon: (muon_init, muon_update, {"momentum": 0.95, "weight_decay": 0.1, "ns_dtype": torch.float32}),
}


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_equals_the_pure_update_bit_for_bit(make: Make, dtype: torch.dtype) -> None:
    params = parameters(dtype)
    optimizer = make(params)
    init, update, options = PURE[type(optimizer)]
    expected = [param.detach().clone() for param in params]
    states = [init(param) for param in params]
    for seed in range(5):
        train(params, optimizer, [seed])
        for n, param in enumerate(params):
            expected[n], states[n] = update(expected[n], param.grad, states[n], lr=0.1, **options)
    for param, value, state in zip(params, expected, states, strict=True):
        assert torch.equal(param, value)
        assert_same(optimizer.state[param], state._asdict())


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("saved", [through_file, copy.deepcopy, lambda state: state])
def test_state_dict_continues_bit_for_bit(make: Make, dtype: torch.dtype, saved: Callable[[Any], Any]) -> None:
    params = parameters(dtype)
    optimizer = make(params)
    train(params, optimizer, range(4))
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    other = make(others)
    other.load_state_dict(saved(optimizer.state_dict()))
    assert_same(other.state_dict(), optimizer.state_dict())
    train(params, optimizer, range(4, 9))
    train(others, other, range(4, 9))
    assert_same(other.state_dict(), optimizer.state_dict())
    assert all(map(torch.equal, params, others))


@every
def test_a_state_dict_is_a_snapshot(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    train(params, optimizer, range(2))
    snapshot = optimizer.state_dict()
    before = copy.deepcopy(snapshot)
    train(params, optimizer, range(2, 5))
    assert_same(snapshot, before)


@every
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])  # noqa: S301  # our own bytes
def test_copies_and_pickles_continue_bit_for_bit(make: Make, duplicate: Callable[[Any], Any]) -> None:
    params = parameters()
    optimizer = make(params)
    train(params, optimizer, range(3))
    others, other = duplicate((params, optimizer))
    train(params, optimizer, range(3, 6))
    train(others, other, range(3, 6))
    assert all(map(torch.equal, params, others))
    assert params[0] is not others[0]


@every
def test_state_has_the_names_of_the_field(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    assert optimizer.state_dict()["state"] == {}
    train(params, optimizer, range(1))
    names = set(optimizer.state_dict()["state"][0])
    assert names == set(PURE[type(optimizer)][0](params[0])._fields)
    assert names <= {"step", "exp_avg", "exp_avg_sq", "momentum_buffer"}


@every
def test_groups_have_their_own_options(make: Make) -> None:
    params = parameters()
    optimizer = make([{"params": params[:1], "lr": 0.0}, {"params": params[1:], "weight_decay": 0.7}])
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.1]
    assert optimizer.param_groups[1]["weight_decay"] == 0.7
    before, alone = params[0].detach().clone(), [torch.nn.Parameter(params[1].detach().clone())]
    same = make([{"params": alone, "weight_decay": 0.7}])
    train(params, optimizer, range(3))
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        torch.randn(3, 4, generator=generator)  # the other group's gradient
        alone[0].grad = torch.randn(3, 4, generator=generator)
        same.step()
    assert torch.equal(params[0], before)
    assert torch.equal(params[1], alone[0])


@every
def test_accepts_a_generator_named_parameters_and_empty_groups(make: Make) -> None:
    layer = torch.nn.Linear(2, 3, bias=False)
    assert len(make(layer.parameters()).param_groups[0]["params"]) == 1
    named = make(layer.named_parameters())
    layer(torch.ones(2)).sum().backward()
    named.step()
    assert named.state_dict()["param_groups"][0]["param_names"] == ["weight"]
    make([{"params": []}, {"params": layer.parameters()}]).step()


@every
def test_a_group_may_come_later(make: Make) -> None:
    params = parameters()
    optimizer = make(params[:1])
    train(params[:1], optimizer, range(2))
    given = {"params": params[1:], "lr": 0.01}
    optimizer.add_param_group(given)
    assert given.keys() == {"params", "lr"}
    train(params, optimizer, range(2))
    assert optimizer.param_groups[1]["lr"] == 0.01
    assert set(optimizer.state) == set(params)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": params[1:]})


@every
def test_a_refused_group_leaves_no_trace(make: Make) -> None:
    params = parameters()
    optimizer = make(params[:1])
    for bad in ({"lr": -1.0}, {"weight_decay": -1.0}, {"lr": "fast"}):
        with pytest.raises(ContractError, match=next(iter(bad))):
            optimizer.add_param_group({"params": params[1:], **bad})
        assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": params[1:]})


@every
def test_a_misspelt_option_of_a_group_is_refused_by_name(make: Make) -> None:
    params = parameters()
    with pytest.raises(ContractError, match=r"params must give a group no option but lr, .*, got \['learning_rate'\]"):
        make([{"params": params, "learning_rate": 3}])
    optimizer = make(params[:1])
    with pytest.raises(ContractError, match=r"got \['momentun'\]"):
        optimizer.add_param_group({"params": params[1:], "momentun": 0.5})
    assert len(optimizer.param_groups) == 1
    make([{"params": params, "initial_lr": 0.1}])  # which torch's schedulers go on from


@every
def test_a_missing_gradient_skips_its_parameter(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    train(params, optimizer, range(1))
    before, moved = (param.detach().clone() for param in params)
    state = copy.deepcopy(optimizer.state[params[0]])
    params[0].grad = None
    optimizer.step()
    assert torch.equal(params[0], before)
    assert_same(optimizer.state[params[0]], state)
    assert not torch.equal(params[1], moved)
    fresh = make(parameters())
    fresh.step()
    assert not fresh.state


@every
def test_a_closure_recomputes_the_loss_with_gradients(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    assert optimizer.step() is None

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.stack([param.square().sum() for param in params]).sum()
        assert loss.requires_grad
        torch.autograd.backward(loss)
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(3)]
    with torch.no_grad():
        losses.append(optimizer.step(closure))
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


@every
def test_hooks_and_torch_schedulers_work(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(3):
        train(params, optimizer, range(1))
        scheduler.step()
    assert calls == ["before", "after"] * 3
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5**3


@every
def test_refuses_bad_parameters(make: Make) -> None:
    name = make([torch.nn.Parameter(torch.ones(1, 1))]).__class__.__name__
    with pytest.raises(ContractError, match=f"^{name}: params must hold at least one"):
        make([])
    with pytest.raises(ContractError, match=f"^{name}: params must be a list of tensors"):
        make(torch.nn.Parameter(torch.ones(1, 1)))
    with pytest.raises(ContractError, match="param must be"):
        make([torch.nn.Parameter(torch.ones(1, 1, dtype=torch.complex64))])
    with pytest.raises(ValueError, match="non-leaf"):
        make([torch.nn.Parameter(torch.ones(1, 1)) * 2])
    with pytest.raises(TypeError, match="optimize Tensors"):
        make([1.0])


@every
def test_refuses_a_sparse_gradient(make: Make) -> None:
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = make(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ContractError, match=r"grad must be dense, got torch\.sparse_coo; make it dense"):
        optimizer.step()
