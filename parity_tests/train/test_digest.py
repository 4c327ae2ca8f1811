from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fluxmod.train._digest import digests

DTYPES = ["float64", "float32", "bfloat16", "int8", "uint16", "bool", "complex128"]


def example(dtype, shape=(8, 4, 2)):
    bits = np.random.default_rng(0).bytes(int(np.prod(shape)) * jnp.dtype(dtype).itemsize)
    if dtype == "bool":
        return np.frombuffer(bits, np.uint8).reshape(shape) > 100
    return np.frombuffer(bits, jnp.dtype(dtype)).reshape(shape)


def digest(array):
    return digests({"a": array})["a"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_flipped_bit_is_noticed(dtype):
    array = example(dtype)
    good = digest(array)
    for place in range(array.nbytes):
        for bit in range(1 if dtype == "bool" else 8):
            data = bytearray(array.tobytes())
            data[place] ^= 1 << bit
            bad = np.frombuffer(bytes(data), array.dtype).reshape(array.shape)
            assert digest(bad) != good


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", [P(), P("x"), P(None, "x"), P(("x", "y")), P("x", None, "y")])
def test_the_split_does_not_matter(dtype, spec):
    array = example(dtype)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("x", "y"))
    assert digest(jax.device_put(array, NamedSharding(mesh, spec))) == digest(array)


def test_places_count_and_empty_arrays_are_fine():
    array = example("float32")
    assert digest(array) != digest(array[::-1])
    assert digest(np.zeros((0, 3))) == digest(np.zeros(())) == 0
