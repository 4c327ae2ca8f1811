"""Models in half and in double precision are ported as they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from fluxmod import convert, parity, porter
from fluxmod._errors import DtypeError
from parity_tests.porter.certified import require_equal
from parity_tests.porter.hub import make


class RMSNorm(nn.Module):
    """An island of float32, and a table that no checkpoint has."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("bend", torch.linspace(0.5, 1.5, dim), persistent=False)

    def forward(self, x):
        input_dtype = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(input_dtype) * self.bend


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.norm = RMSNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.bn(self.conv(x)).relu().mean((2, 3))
        return self.head(self.norm(x))


def net(dtype):
    torch.manual_seed(0)
    return Net().to(dtype).eval(), torch.randn(2, 3, 7, 6, dtype=dtype)


class Positions(nn.Module):
    """Computes in the dtype that its caller names."""

    def forward(self, mask, dtype):
        return mask.cumsum(1).to(dtype).sin()


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.positions, self.fc = Positions(), nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) + self.positions(x > 0, x.dtype)


def test_a_dtype_that_torch_keeps_in_a_variable_is_the_models_own():
    torch.manual_seed(0)
    theirs, x = Named(), torch.randn(2, 4)
    ours = porter.port(theirs, x)
    assert ".astype(float)" in porter.source(ours)
    options = parity.Options(levels=("L0", "L1", "L2"), per_module=False)
    parity.check(theirs, ours, x, options=options).require()


class Created(nn.Module):
    """New arrays in the dtype of another one, said in each of torch's ways."""

    def forward(self, x):
        dtype = x.dtype
        x = x * torch.arange(1, 5, dtype=x.dtype) / 3
        x = x + torch.linspace(0, 1, 4, dtype=dtype)
        x = x + torch.full((4,), 1 / 3, dtype=x.dtype) + torch.full((4,), 2, dtype=dtype)
        x = x @ (torch.eye(4, dtype=dtype) + torch.ones(4, 4, dtype=x.dtype))
        return x + torch.zeros(x.shape[0], 1, dtype=x.dtype)


def test_new_arrays_have_the_dtype_that_they_are_told():
    theirs, x = Created(), torch.randn(2, 4)
    ours = porter.port(theirs, x)
    assert "jnp.arange(1, 5, dtype=" in porter.source(ours)
    assert "float32" not in porter.source(ours)
    require_equal(theirs, ours, x)
    low = ours(jnp.ones((2, 4), jnp.bfloat16))
    assert low.dtype == jnp.bfloat16


class CastsItself(nn.Module):
    """Switch's router: the layer is cast to what it is, in every call."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        self.fc = self.fc.to(self.fc.weight.dtype)
        steps = torch.arange(0, 4, dtype=torch.float32) * 0.1
        return self.fc(x) + steps.sin().to(x.dtype)


def test_a_layer_that_is_cast_to_its_own_dtype_stays_as_it_is():
    theirs, x = CastsItself(), torch.randn(2, 4)
    ours = porter.port(theirs, x)
    assert "jnp.arange(4, dtype=jnp.float32)" in porter.source(ours)
    options = parity.Options(levels=("L0", "L1", "L2"), per_module=False)
    parity.check(theirs, ours, x, options=options).require()


HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


@HALVES
def test_a_half_precision_model_keeps_every_dtype(dtype):
    theirs, x = net(dtype)
    ours = porter.port(theirs, x)
    name = str(dtype).removeprefix("torch.")
    known = {key: str(value.dtype) for key, value in convert.to_torch(ours).items()}
    assert known == {
        key: str(tensor.dtype).removeprefix("torch.") for key, tensor in theirs.state_dict().items()
    }
    assert str(ours.norm.bend[...].dtype) == name
    with torch.no_grad():
        want, truth = theirs(x), theirs.double()(x.double())
    got = porter.feed(ours, x)
    assert str(got.dtype) == name
    theirs_off = (want.double() - truth).norm()
    ours_off = np.linalg.norm(got.astype(np.float64) - truth.numpy())
    assert 0 < ours_off <= 2 * theirs_off + 2 * torch.finfo(dtype).eps * truth.norm()


@HALVES
def test_the_source_has_the_casts_of_torchs(dtype):
    theirs, x = net(dtype)
    text = porter.source(porter.port(theirs, x))
    assert "x.astype(jnp.float32)" in text
    assert "astype(input_dtype)" in text
    assert f"jnp.ones(dim, {str(dtype).replace('torch', 'jnp')})" in text


def test_a_float64_model_is_ported_in_float64():
    theirs, x = net(torch.float64)
    theirs.norm = nn.Identity()  # no float32 in it
    with pytest.raises(DtypeError, match="JAX without x64 cannot hold"):
        porter.port(theirs, x)
    with jax.enable_x64(True):
        got = porter.feed(porter.port(theirs, x), x)
    want = theirs(x).detach().numpy()
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_a_half_precision_language_model_has_a_certificate():
    theirs, inputs = make("llama")
    theirs = theirs.bfloat16()
    ours = porter.port(theirs, **inputs)
    options = parity.Options(levels=("L0", "L1", "L4"), per_module=False)
    report = parity.check(theirs, ours, options=options, **inputs)
    report.require()
    trained = [row for row in report.rows if row.level == "L4" and "after 10" in row.what]
    assert trained
    assert all("casts float64 to lower precision" in row.note for row in trained)
    assert all(row.limit == pytest.approx(4e-5) for row in trained)


def test_weights_of_a_half_precision_file_keep_their_dtype(tmp_path):
    theirs, x = net(torch.bfloat16)
    theirs.norm = nn.Identity()  # whose table no file has
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), file)
    want = porter.feed(porter.port(theirs, x), x)
    with torch.device("meta"):
        shapes = Net().to(torch.bfloat16).eval()
        shapes.norm = nn.Identity()
    ours = porter.port(shapes, x)
    convert.to_flax(file, ours)  # the shapes have the dtypes already
    assert ours.conv.kernel[...].dtype == jnp.bfloat16
    np.testing.assert_array_equal(porter.feed(ours, x), want)
