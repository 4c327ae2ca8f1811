"""Names without a place in JAX are classes, as in torch, and say what to use instead."""

from __future__ import annotations

import pytest
import torch
from torch import nn as tnn

from fluxmod import nn


@pytest.mark.parametrize("name", ["DataParallel", "DistributedDataParallel", "data_parallel"])
def test_replicas_name_the_mesh(name):
    assert hasattr(torch.nn.parallel, name)
    with pytest.raises(NotImplementedError, match=rf"^{name} .*fluxmod\.train\.Trainer\(.*mesh="):
        getattr(nn.parallel, name)(nn.ReLU(), device_ids=[0])
    assert nn.DataParallel is nn.parallel.DataParallel


@pytest.mark.parametrize("name", ["UninitializedParameter", "UninitializedBuffer"])
def test_values_without_a_shape_name_the_lazy_layers(name):
    with pytest.raises(NotImplementedError, match=rf"^{name} .*LazyLinear"):
        getattr(nn, name)()


def test_a_container_holds_what_it_is_given_and_warns():
    with pytest.warns(FutureWarning, match="deprecated"):
        theirs = tnn.Container(a=tnn.ReLU(), b=tnn.Tanh())
    with pytest.warns(FutureWarning, match="deprecated"):
        ours = nn.Container(a=nn.ReLU(), b=nn.Tanh())
    assert str(ours) == str(theirs)
