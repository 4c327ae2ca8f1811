"""Operators that torch has no float64 of are what its float32 kernels are."""

import pytest
import torch

from fluxmod.parity._float64 import float64_kernels

ENDS = torch.tensor([4, 4, 12], dtype=torch.int32)
SHAPES = {
    "groups of rows": ((12, 8), (3, 8, 4)),
    "groups of columns": ((3, 4, 8), (8, 12)),
    "groups of what is summed": ((8, 12), (12, 4)),
    "a batch": ((3, 4, 8), (3, 8, 4)),
}


@pytest.mark.skipif(not hasattr(torch.nn.functional, "grouped_mm"), reason="torch before 2.10")
@pytest.mark.parametrize("name", SHAPES)
def test_grouped_products_in_float64(name):
    a, b = (torch.randn(shape, requires_grad=True) for shape in SHAPES[name])
    offs = None if name == "a batch" else ENDS
    want = torch.nn.functional.grouped_mm(a, b, offs=offs)
    with float64_kernels():
        got = torch.nn.functional.grouped_mm(a.double(), b.double(), offs=offs)
        same = torch.nn.functional.grouped_mm(a, b, offs=offs)
    torch.testing.assert_close(got.float(), want)
    assert torch.equal(same, want)
    slopes = (torch.autograd.grad(out.square().sum(), (a, b)) for out in (got, want))
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)
