"""Every model of the zoo ports, and the port is torch's model by L0 and L1 in both modes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fluxmod import parity, porter
from fluxmod.models import CATALOG
from parity_tests.porter.certified import require_equal
from parity_tests.porter.zoo import ZOO

QUICK = ("dqn", "ema", "gated_mlp", "gcn", "in_place", "perceiver", "shuffle", "siamese", "tcn")


def tensors(tree):
    return [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in tree]


@pytest.mark.parametrize("name", ["ema", "flash"])
def test_every_level_of_the_certificate(name):
    """Training steps, torch's masks and every submodule on its own, too."""
    model, inputs = ZOO[name].make()
    report = parity.check(model, porter.port(model, *inputs), *inputs).require()
    assert {row.level for row in report.rows} == {"L0", "L1", "L2", "L4", "L5"}


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_a_note_model_and_its_port_are_equal(row):
    args, kwargs = row.make(3)
    model = row.torch()
    named = dict(zip(kwargs, tensors(kwargs.values()), strict=True))
    ported = porter.port(model, *tensors(args), **named)
    require_equal(model, ported, *args, **kwargs)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"resnet50"}))
def test_the_whole_zoo_runs_in_torchs_layout(name):
    """Those that are quick to certify are certified too; ``table.py`` certifies all."""
    model, inputs = ZOO[name].make()
    model.eval()
    ported = porter.port(model, *inputs)
    want = model(*inputs)
    got = porter.feed(ported, *inputs)
    flat = torch.utils._pytree.tree_leaves
    for a, b in zip(flat(got), flat(want), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=2e-4, atol=2e-5)
    if name in QUICK:
        require_equal(model, ported, *inputs)


def test_a_port_computes_at_other_batch_sizes():
    model, inputs = ZOO["gated_mlp"].make()
    ported = porter.port(model, *inputs)
    larger = torch.randn(7, *inputs[0].shape[1:])
    np.testing.assert_allclose(
        porter.feed(ported, larger), model(larger).detach(), rtol=1e-5, atol=1e-6
    )


def test_training_mode_updates_statistics_through_feed():
    model, inputs = ZOO["pointnet"].make()
    ported = porter.port(model, *inputs)
    porter.feed(ported, *inputs)
    model(*inputs)
    np.testing.assert_allclose(ported.bn1.mean[...], model.bn1.running_mean, rtol=1e-5)


def test_torchs_layout_at_the_boundary():
    model, inputs = ZOO["shuffle"].make()
    ported = porter.port(model, *inputs, options=porter.Options(layout="torch"))
    assert porter.inputs(ported)[0].channel is None
    np.testing.assert_allclose(
        ported(inputs[0].numpy()), model(*inputs).detach(), rtol=1e-5, atol=1e-6
    )


def test_a_mask_that_torch_drops_takes_no_gradient():
    """torch knows a causal mask and leaves it out: its parts have no gradient for it."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    x, mask = torch.randn(2, 3, 6), torch.nn.Transformer.generate_square_subsequent_mask(3)
    report = parity.check(
        model, porter.port(model, x, mask), x, mask, options=parity.Options(levels=("L0", "L1"))
    )
    assert report.passed, report
    assert {"layers.0", "layers.0.self_attn"} <= {row.path for row in report.rows}
    assert not any("mask" in row.what for row in report.rows)
