"""Views by strides, and writes where a mask is true."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fluxmod import parity, porter
from fluxmod._errors import UnsupportedOpError

LEVELS = parity.Options(levels=("L0", "L1"), per_module=False)


class Chunks(nn.Module):
    """Overlapping chunks as Longformer makes them: of two axes in memory, and of one."""

    def forward(self, x):
        x = x.transpose(1, 2)
        chunks = x.reshape(x.size(0), x.size(1) // 4, 4, x.size(2))
        size, stride = list(chunks.size()), list(chunks.stride())
        size[1], stride[1] = size[1] * 2 - 1, stride[1] // 2
        padded = nn.functional.pad(x, (0, 0, 2, 2), value=-1.0).contiguous()
        one, two, three = padded.stride()
        wide = (padded.size(0), x.size(1) // 2, 6, padded.size(2))
        return (
            chunks.as_strided(size, stride),
            padded.as_strided(wide, (one, 2 * two, two, three)),
            x.unfold(1, 3, 2),
        )


class Diagonal(nn.Module):
    def forward(self, x):
        return x.as_strided((x.size(0), 3), (x.stride(0), x.stride(1) + 1))


class Masked(nn.Module):
    def forward(self, x, mask):
        x, y, kept = x * 2, x + 1.0, x.abs() > 1
        x[mask > 0] = -3.0
        y[:, x[0, :, 0] > 1] = 0.5
        kept[mask > 1] = True
        z = x * 3
        z[mask > 0] = y[0, 0]  # one row for every place
        z[:, mask[0] < 0, 1] = mask[1, 0]
        return x, y, kept, z


class AsManyAsTrue(nn.Module):
    """A value for each true entry, one for all of them, and rows that fill the axes behind."""

    def forward(self, x):
        y, z = x * 2, x * 3.0
        y[x > 0] = x[x > 0] + 1
        y[x > 1] = x[:1, 0]
        z[x[:, 0] > 0] = x[:1] * 4
        z[x[:, 1] > 0] = x[x[:, 1] > 0][:, :1] - 1
        return y, z, torch.where(x > 0, x, y).index_put((x < 0,), x[x < 0].abs(), accumulate=True)


class AlongOthers(nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, x[0] > 0] = x[:, x[0] > 0]
        return y


class Transposed(nn.Module):
    """Writes through the transposes that PyTorch has as attributes."""

    def forward(self, x):
        y, z, w = x * 1, x + 1, x + 2
        y.mT.mul_(2)
        z.mT[0] = 1
        w.mH[:, 1:2].add_(3.0)
        return y.mT @ z, w.adjoint(), x[0].T + x[0].H


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (Chunks(), [(2, 5, 8)]),
        (Masked(), [(2, 5, 8), (2, 5)]),
        (AsManyAsTrue(), [(4, 3)]),
        (Transposed(), [(2, 5, 4)]),
    ],
    ids=str,
)
def test_windows_and_masks(model, shapes):
    torch.manual_seed(0)
    inputs = [torch.randn(shape) for shape in shapes]
    parity.check(model, porter.port(model, *inputs), *inputs, options=LEVELS).require()


def test_windows_have_a_name():
    text = porter.source(porter.port(Chunks(), torch.randn(2, 5, 8)))
    assert "ops.windows(padded, 1, 6, 2)" in text
    assert "ops.unfold(" in text


def test_a_value_for_each_true_entry_along_another_axis_is_refused():
    with pytest.raises(UnsupportedOpError, match="sizes depend on values"):
        porter.port(AlongOthers(), torch.randn(3, 3))


def test_other_strides_are_refused():
    with pytest.raises(UnsupportedOpError, match="as_strided"):
        porter.port(Diagonal(), torch.randn(2, 3, 3))
