"""Operators under their rarer names, and those that torch writes in terms of others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x) * 1.0


WRITTEN = {
    # what torch is asked, and what the source says
    "x.absolute()": "ops.abs(x)",
    "torch.where(x.greater(0) & x.less_equal(1), x, x.fix() - 1)": "(x > 0) & (x <= 1)",
    "torch.vstack([x, x])": "jnp.vstack([x, x])",
    "torch.hstack((x, x))": "jnp.hstack([x, x])",
    "x.mT @ x": "x.swapaxes(1, 2) @ x",
    "x.ravel()": "x.ravel()",
    "x.movedim(0, -1)": "x.transpose(1, 2, 0)",
    "torch.moveaxis(x, (0, 1), (1, 0))": "x.swapaxes(0, 1)",
    "torch.cdist(x, 2 * x)": "ops.norm(",
    "torch.std_mean(x, 1)[0] + torch.var_mean(x, dim=1)[1]": "x.std(axis=1, ddof=1)",
    "torch.tensordot(x, x, dims=([0, 1], [0, 1]))": "jnp.tensordot(",
    "torch.linalg.cross(x[..., :3], x[..., 1:])": "jnp.cross(",
    "torch.special.expit(x)": "F.sigmoid(x)",
    "torch.median(x) + torch.nanmean(x)": "jnp.quantile(x, 0.5, method='lower')",
    "x.kthvalue(2, dim=1)[0]": "jnp.sort(x, axis=1)",
    "torch.linalg.solve(x[:, :4] @ x[:, :4].mT + torch.eye(4), x[:, :4])": "jnp.linalg.solve(",
    "torch.digamma(x.abs() + 0.1)": "jax.scipy.special.digamma(",
    "torch.hann_window(4) * x": "jnp.hanning(5)[:-1]",
}


@pytest.mark.parametrize("asked", WRITTEN)
def test_a_rarer_name_has_its_counterpart(asked):
    torch.manual_seed(0)
    function = eval(f"lambda x: {asked}", {"torch": torch})
    model, x = Applied(function), torch.randn(2, 5, 4)
    ported = porter.port(model, x)
    text = porter.source(ported).replace('"', "'")
    assert WRITTEN[asked] in text, text
    if "window" not in asked:  # the window is float32 in torch
        require_equal(model, ported, x)


WRITTEN_OUT = {
    "fftshift": lambda x: torch.fft.fftshift(torch.fft.fft(x).real, dim=1),
    "trapezoid": lambda x: torch.trapezoid(x, dx=0.5),
    "isclose": lambda x: x * torch.isclose(x, x.round()),
    "atleast_3d": lambda x: torch.atleast_3d(x[0]) + torch.atleast_1d(x[0, 0, 0]),
    "fliplr": lambda x: torch.fliplr(x) - torch.flipud(x),
    "column_stack": lambda x: torch.column_stack([x[0], x[1]]),
    "cartesian_prod": lambda x: torch.cartesian_prod(x[0, 0], x[1, 0]),
    "matrix norm": lambda x: torch.linalg.matrix_norm(x),
    "cross": lambda x: torch.cross(x[..., :3], x[..., 1:], dim=-1),
    "logdet": lambda x: torch.logdet(x[0].T @ x[0] + torch.eye(4, dtype=x.dtype)),
    "stft": lambda x: torch.stft(
        x.flatten(1), 8, window=torch.ones(8).to(x), return_complex=True
    ).abs(),
    "std of all": lambda x: torch.std_mean(x)[0],
    "sum_to_size": lambda x: x.sum_to_size(1, 5, 4),
    "gradient": lambda x: torch.gradient(x, dim=1)[0],
    "in place": lambda x: (x * 1).absolute_().negative_(),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_what_torch_composes_is_written_out(name):
    torch.manual_seed(0)
    model, x = Applied(WRITTEN_OUT[name]), torch.randn(2, 5, 4)
    require_equal(model, porter.port(model, x), x)
