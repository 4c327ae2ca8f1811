"""torch.optim as optax transformations: the same names, arguments, defaults and numbers."""

from __future__ import annotations

from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from ._adafactor import Adafactor as Adafactor
from ._adam import Adam as Adam
from ._adam import AdamW as AdamW
from ._adam_relatives import Adamax as Adamax
from ._adam_relatives import NAdam as NAdam
from ._adam_relatives import RAdam as RAdam
from ._adaptive import Adadelta as Adadelta
from ._adaptive import Adagrad as Adagrad
from ._adaptive import RMSprop as RMSprop
from ._asgd import ASGD as ASGD
from ._asgd import Rprop as Rprop
from ._clip import clip_grad_norm as clip_grad_norm
from ._clip import clip_grad_value as clip_grad_value
from ._family import FAMILIES as FAMILIES
from ._family import Family as Family
from ._family import OptimizerState as OptimizerState
from ._family import Settings as Settings
from ._lbfgs import LBFGS as LBFGS
from ._muon import Muon as Muon
from ._sgd import SGD as SGD
from ._sparse_adam import SparseAdam as SparseAdam

__all__ = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "FAMILIES",
    "Family",
    "LBFGS",
    "Muon",
    "NAdam",
    "OptimizerState",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "Settings",
    "SparseAdam",
    "clip_grad_norm",
    "clip_grad_value",
    "lr_scheduler",
    "swa_utils",
]
