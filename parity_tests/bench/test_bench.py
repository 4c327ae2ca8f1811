"""What the benchmark compares is the same model; its rows survive a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flax import nnx

from benchmarks.plain_port import LAYERS, with_plain_layers
from fluxmod import bench
from parity_tests.porter.zoo import ZOO


@pytest.mark.parametrize("name", ["mobilenet", "convnext", "vit"])
def test_plain_layers_compute_what_the_port_computes(name):
    model, args = ZOO[name].make()
    case = bench.Case(name, lambda: model, args)
    ported, plain = case.in_flax(), with_plain_layers(case.in_flax())
    assert not [m for _, m in nnx.iter_modules(plain) if type(m) in LAYERS]
    ported.eval()
    plain.eval()
    x = np.moveaxis(args[0].numpy(), 1, -1)
    np.testing.assert_allclose(plain(x), ported(x), rtol=1e-3, atol=1e-4)


def test_rows_are_read_as_they_were_written(tmp_path):
    case = bench.Case("linear", lambda: torch.nn.Linear(4, 2), (torch.ones(3, 4),))
    rows = bench.compare(case, rounds=2, torch_compile=False)
    bench.save(rows, tmp_path / "rows.json", {"cores": "2"})
    assert bench.load(tmp_path / "rows.json") == rows
    assert rows[1].memory.keys() in (set(), rows[1].ms.keys())


@pytest.mark.parametrize("groups", [1, 4])
def test_a_training_step_of_a_convolution_is_three_times_its_forward_pass(groups):
    """torch's own count takes the gradients of a grouped convolution for a dense one's."""
    layers = torch.nn.Conv2d(4, 4, 1), torch.nn.Conv2d(4, 8, 3, padding=1, groups=groups)
    case = bench.Case("conv", lambda: torch.nn.Sequential(*layers), (torch.ones(2, 4, 6, 6),))
    infer, train = bench.compare(case, rounds=1, torch_compile=False)
    first, second = 2 * 72 * 4 * 4 / 1e9, 2 * 72 * 8 * (4 // groups) * 9 / 1e9
    assert infer.gflop == pytest.approx(first + second)
    assert train.gflop == pytest.approx(2 * first + 3 * second)  # the images have no gradient


def test_every_counterpart_is_new():
    case = bench.Case("linear", lambda: torch.nn.Linear(4, 2), (torch.ones(3, 4),))
    first, second = case.in_flax(), case.in_flax()
    first.kernel[...] = 0
    assert np.asarray(second.kernel[...]).any()
