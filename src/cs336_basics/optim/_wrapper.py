"""What the three `torch.optim.Optimizer` wrappers share; the mathematics is in the pure updates they call."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cs336_basics.contracts import ContractError, require

# What torch keeps in a group beside its options: tensors, their names, and what its schedulers go on from.
_NO_OPTIONS = frozenset({"params", "param_names", "initial_lr"})


class PureOptimizer(Optimizer):
    """Calls a pure update for each parameter that has a gradient, and copies the new values into place.

    State tensors are replaced and never written: a `state_dict` taken earlier stays what it was.
    A subclass gives its defaults, `_update` and the names of its state; it holds nothing else, so copies and
    pickles are complete.
    """

    state_names: ClassVar[frozenset[str]]

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        require(not isinstance(params, Tensor), "{}: params must be a list of tensors, got a single one", name)
        listed: list[Any] = list(params)
        require(len(listed) > 0, "{}: params must hold at least one tensor, got none", name)
        super().__init__(listed, defaults)

    @abstractmethod
    def _update(
        self, param: Tensor, grad: Tensor, saved: dict[str, Any] | None, group: dict[str, Any]
    ) -> tuple[Tensor, NamedTuple]:
        """The new value and state of one parameter; `saved` is its state as a dict, None before its first step."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options it does not give are the optimizer's own.

        Raises: ContractError if an option is unknown, or an option or a parameter is not one the update accepts.
        """
        group = {**self.defaults, **param_group}
        unknown = sorted(group.keys() - self.defaults.keys() - _NO_OPTIONS)
        message = "{}: params must give a group no option but {}, got {}"
        require(not unknown, message, type(self).__name__, ", ".join(self.defaults), unknown)
        super().add_param_group(group)
        try:
            # The pure update is the one judge of its arguments: it tries them on tensors without entries.
            for ndim, dtype in {(param.ndim, param.dtype) for param in group["params"]}:
                blank = torch.zeros((0,) * ndim, dtype=dtype)
                self._update(blank, blank, None, group)
        except ContractError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; return what `closure` (it recomputes the loss) returned.

        A parameter whose gradient is None is skipped, and its state left as it is.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    value, state = self._update(param, param.grad, self.state.get(param), group)
                    param.copy_(value)
                    self.state[param] = state._asdict()
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # torch adds this option of its own at every load and unpickling; ours take no part in it, nor do our states.
        self.defaults.pop("differentiable", None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict` of this class (AdamW: or of torch.optim.AdamW), bit for bit.

        Raises: ContractError if a group lacks an option or a state has an unknown name (another optimizer saved it),
            or if a state does not fit its parameter; ValueError if the groups are not of the same sizes. The
            optimizer is then as it was.
        """
        message = "{}: state_dict must come from the same kind of optimizer, got one {} {}"
        name = type(self).__name__
        for group in state_dict["param_groups"]:
            missing = sorted(self.defaults.keys() - group.keys())
            require(not missing, message, name, "without the options", missing)
        for state in state_dict["state"].values():
            unknown = sorted(state.keys() - self.state_names)
            require(not unknown, message, name, "with the state", unknown)
        restored = self._restored(state_dict)
        super().load_state_dict(state_dict)
        self.state.update(restored)

    def _restored(self, state_dict: dict[str, Any]) -> dict[Tensor, dict[str, Any]]:
        """The saved states by parameter, each tried first: a state that cannot be updated must not get in."""
        states: dict[Tensor, dict[str, Any]] = {}
        # Groups of other numbers or sizes are the base class's to refuse.
        for own, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            for saved_id, param in zip(saved["params"], own["params"], strict=False):
                if saved_id not in state_dict["state"]:
                    continue
                try:
                    states[param] = {
                        key: _restore(key, value, param) for key, value in state_dict["state"][saved_id].items()
                    }
                    # As for groups, the pure update is the judge; on this device tensors have shapes and no entries.
                    blank = torch.empty_like(param, device="meta")
                    tried = {key: _on_meta(value) for key, value in states[param].items()}
                    self._update(blank, blank, tried, saved)
                except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
                    raise ContractError(
                        f"{type(self).__name__}: state_dict must fit the parameters, got for number {saved_id}, "
                        f"of shape {tuple(param.shape)}: {error}"
                    ) from None
        return states


def _restore(key: str, value: Any, param: Tensor) -> Any:
    """A saved value with the precision it was saved in: the base class rounds it to the parameter's dtype."""
    if key == "step":
        return int(value)  # torch.optim saves a tensor
    return value.to(param.device) if isinstance(value, Tensor) else value


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
