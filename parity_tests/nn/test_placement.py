"""nn.to: dtype and device."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from fluxmod import nn


def test_floats_change_and_the_rest_stays():
    model = nn.Sequential(
        nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.BatchNorm1d(3), nn.Dropout(0.5, rngs=nnx.Rngs(1))
    )
    assert nn.to(model, dtype=jnp.bfloat16) is model
    assert model[0].kernel.dtype == model[1].mean.dtype == jnp.bfloat16
    assert model[0].param_dtype == jnp.bfloat16
    assert model[1].num_batches_tracked.dtype == jnp.int32
    assert jnp.issubdtype(model[2].rngs.key[...].dtype, jax.dtypes.prng_key)
    assert model(jnp.ones((4, 2), jnp.bfloat16)).dtype == jnp.bfloat16


def test_device_and_sharding():
    model = nn.Linear(2, 4, rngs=nnx.Rngs(0))
    nn.to(model, jax.devices()[3])
    assert model.kernel.get_value().devices() == {jax.devices()[3]}
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    nn.to(model, NamedSharding(mesh, PartitionSpec()))
    assert len(model.bias.get_value().devices()) == 4


def test_a_tie_stays_a_tie():
    layer = nn.Linear(3, 3, rngs=nnx.Rngs(0))
    model = nn.Sequential(layer, nn.Linear(3, 3, rngs=nnx.Rngs(1)))
    model[1].kernel = layer.kernel
    nn.to(model, dtype=jnp.float16)
    assert model[1].kernel is model[0].kernel
    assert model[1].kernel.dtype == jnp.float16


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float64])
def test_refusals_change_nothing(dtype):
    model = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"to:"):
        nn.to(model, dtype=dtype)
    assert model.kernel.dtype == jnp.float32


def test_float64(x64):
    model = nn.to(nn.Linear(2, 3, rngs=nnx.Rngs(0)), dtype=jnp.float64)
    assert model(jnp.ones((1, 2))).dtype == jnp.float64
