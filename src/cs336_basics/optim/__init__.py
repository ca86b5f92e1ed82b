"""Optimizers as pure updates of one tensor, their `torch.optim.Optimizer` wrappers, schedules and clipping."""

from cs336_basics.optim.adamw import AdamW, AdamWState, adamw_init, adamw_update
from cs336_basics.optim.clipping import clip_by_global_norm, clip_grad_norm, global_norm
from cs336_basics.optim.each import update_each
from cs336_basics.optim.muon import Muon, MuonState, muon_init, muon_update, newton_schulz, split_parameters
from cs336_basics.optim.schedules import cosine_schedule, linear_schedule, wsd_schedule
from cs336_basics.optim.sgd import SGD, SGDState, sgd_init, sgd_update

__all__ = [
    "SGD",
    "AdamW",
    "AdamWState",
    "Muon",
    "MuonState",
    "SGDState",
    "adamw_init",
    "adamw_update",
    "clip_by_global_norm",
    "clip_grad_norm",
    "cosine_schedule",
    "global_norm",
    "linear_schedule",
    "muon_init",
    "muon_update",
    "newton_schulz",
    "sgd_init",
    "sgd_update",
    "split_parameters",
    "update_each",
    "wsd_schedule",
]
