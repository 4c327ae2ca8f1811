"""The constructor arguments and inputs that torch tests its own attention modules with."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn as tnn
from torch.testing._internal.common_modules import module_db

from fluxmod import nn
from fluxmod.nn import functional as F
from parity_tests.nn.cases import Case
from parity_tests.nn.replayed import replayed

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")

COUNTS = {
    "MultiheadAttention": 64,
    "TransformerEncoderLayer": 39,
    "TransformerDecoderLayer": 67,
    "TransformerEncoder": 39,
    "Transformer": 64,
}
FUNCTIONS = {torch.nn.functional.gelu: F.gelu, torch.nn.functional.relu: F.relu}


def samples(name):
    (info,) = (i for i in module_db if i.module_cls is getattr(tnn, name))
    with warnings.catch_warnings(), torch.random.fork_rng():
        torch.manual_seed(0)
        warnings.simplefilter("ignore")
        return info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=False, training=True
        )


def as_case(name, index, sample):
    """A case that builds torch's layer as the sample does, and ours with the same arguments."""
    made, given = sample.constructor_input, sample.forward_input

    def ours(*, rngs, param_dtype):
        types = {"rngs": rngs, "param_dtype": param_dtype}
        args = [in_flax(arg, types) for arg in made.args]
        extra = {} if name == "TransformerEncoder" else types
        return getattr(nn, name)(*args, **made.kwargs, **extra)

    return Case(
        f"{name}-{index}",
        lambda: getattr(tnn, name)(*made.args, **made.kwargs),
        ours,
        x=lambda rng: tuple(arg.numpy() for arg in given.args),
        call={k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in given.kwargs.items()},
    )


def in_flax(arg, types):
    if isinstance(arg, tnn.TransformerEncoderLayer):
        return nn.TransformerEncoderLayer(
            arg.self_attn.embed_dim,
            arg.self_attn.num_heads,
            arg.linear1.out_features,
            arg.dropout.p,
            FUNCTIONS[arg.activation],
            arg.norm1.eps,
            arg.self_attn.batch_first,
            arg.norm_first,
            arg.linear1.bias is not None,
            **types,
        )
    return FUNCTIONS[arg] if callable(arg) else arg


@pytest.mark.parametrize("name", COUNTS)
def test_torchs_own_samples(name, request):
    """Every 16th sample, all of them with --samples=all: outputs and all gradients."""
    every = samples(name)
    assert len(every) == COUNTS[name]
    step = 1 if request.config.getoption("--samples") == "all" else 16
    for index in range(0, len(every), step):
        case = as_case(name, index, every[index])
        assert replayed(case) == 0, case.id
