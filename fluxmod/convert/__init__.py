"""Weights between torch state_dicts and Flax models: strict, bitwise, both ways."""

from __future__ import annotations

from ._apply import apply as apply
from ._apply import to_flax as to_flax
from ._apply import to_torch as to_torch
from ._files import open_weights as open_weights
from ._habits import IncompatibleKeys as IncompatibleKeys
from ._habits import freeze as freeze
from ._habits import load_state_dict as load_state_dict
from ._habits import named_parameters as named_parameters
from ._habits import parameter_count as parameter_count
from ._habits import state_dict as state_dict
from ._habits import unfreeze as unfreeze
from ._optimizer import load_optimizer_state_dict as load_optimizer_state_dict
from ._optimizer import optimizer_to_flax as optimizer_to_flax
from ._optimizer import optimizer_to_torch as optimizer_to_torch
from ._pairing import torch_axes as torch_axes
from ._plan import Match as Match
from ._plan import Plan as Plan
from ._plan import Problem as Problem
from ._plan import plan as plan
from ._save import describe as describe
from ._save import save as save
from ._slots import Slot as Slot
from ._slots import slots as slots
from ._source import Source as Source
from ._source import Weight as Weight
from ._source import read as read
from ._torch import into_torch as into_torch

__all__ = [
    "IncompatibleKeys",
    "Match",
    "Plan",
    "Problem",
    "Slot",
    "Source",
    "Weight",
    "apply",
    "describe",
    "freeze",
    "into_torch",
    "load_optimizer_state_dict",
    "load_state_dict",
    "named_parameters",
    "open_weights",
    "optimizer_to_flax",
    "optimizer_to_torch",
    "parameter_count",
    "plan",
    "read",
    "save",
    "slots",
    "state_dict",
    "to_flax",
    "to_torch",
    "torch_axes",
    "unfreeze",
]
