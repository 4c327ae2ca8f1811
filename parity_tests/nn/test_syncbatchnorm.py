from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.compare import bitwise, same
from parity_tests.nn.cases import Case, both_raise, case_and_check, run
from parity_tests.nn.twins import build, call_flax, flax_inputs, inputs


def sync(id, x=(4, 3, 5, 6), train=True, **kwargs):
    return Case(f"sync-{id}", tnn.SyncBatchNorm, nn.SyncBatchNorm, (3,), kwargs, x, {}, train)


CASES = [
    sync("map"),
    sync("flat", (4, 3)),
    sync("volume", (2, 3, 2, 5, 4)),
    sync("eval", train=False),
    sync("no-bias", bias=False),
    sync("cumulative", momentum=None),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("case", [sync("rank-1", (3,)), sync("one-value", (1, 3))], ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


def devices(count=4):
    return Mesh(np.array(jax.devices()[:count]), ("data",))


def step(graph, state, x, weight):
    """Gradients of a functional of the output, the output and the statistics afterwards."""

    def total(params, x):
        model = nnx.merge(graph, params, rest, copy=True)
        out = model(x)
        return jnp.vdot(out, weight), (out, nnx.state(model, nnx.BatchStat))

    params, rest = state
    (_, (out, stats)), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)
    return grads, out, stats


def setting():
    case = sync("devices", x=(8, 3, 5, 6))
    _, ours = build(case)
    (x,) = flax_inputs(ours, inputs(case))
    graph, *state = nnx.split(ours, nnx.Param, ...)
    state = jax.device_put(state, NamedSharding(devices(), P()))
    weight = jnp.asarray(np.random.default_rng(0).standard_normal(x.shape))
    return ours, graph, tuple(state), x, weight


def flat(tree):
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def test_a_sharded_batch_under_jit_gives_the_statistics_of_all_of_it(x64):
    _, graph, state, x, weight = setting()
    work = jax.jit(lambda state, x: step(graph, state, x, weight))
    spread, whole = (jax.device_put(x, NamedSharding(devices(), s)) for s in (P("data"), P()))
    same(flat(work(state, spread)), flat(work(state, whole)), limit=1e-12)


def test_a_named_axis_gives_the_statistics_of_all_devices(x64):
    ours, graph, state, x, weight = setting()
    want = jax.jit(lambda state, x: step(graph, state, x, weight))(state, x)
    named = nn.SyncBatchNorm.convert_sync_batchnorm(ours, axis_name="data")
    there, *_ = nnx.split(named, nnx.Param, ...)

    def parts(state, x, weight):
        (of_params, of_x), out, stats = step(there, state, x, weight)
        return (of_params, of_x), out, stats

    work = jax.jit(
        jax.shard_map(
            parts,
            mesh=devices(),
            in_specs=(P(), P("data"), P("data")),
            out_specs=((P(), P("data")), P("data"), P()),
        )
    )
    same(flat(work(state, x, weight)), flat(want), limit=1e-12)


def test_conversion_replaces_every_batch_norm_and_keeps_its_variables():
    def net(nn, **kwargs):
        return nn.Sequential(
            nn.BatchNorm2d(3, momentum=0.3, **kwargs),
            nn.ModuleDict({"a": nn.BatchNorm1d(4, affine=False), "b": nn.InstanceNorm1d(3)}),
            nn.GroupNorm(1, 3),
        )

    theirs = tnn.SyncBatchNorm.convert_sync_batchnorm(net(tnn))
    ours = net(nn)
    scale = ours[0].scale
    ours.eval()
    ours = nn.SyncBatchNorm.convert_sync_batchnorm(ours)
    assert str(ours) == str(theirs)
    assert ours[0].scale is scale
    assert not ours[0].training
    bitwise(convert.to_torch(ours), theirs.state_dict())
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm3d(2)), nn.SyncBatchNorm)


def test_a_process_group_is_refused_and_the_way_named():
    for build_it in (
        lambda: nn.SyncBatchNorm(3, process_group="world"),
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm1d(3), "world"),
    ):
        with pytest.raises(ValueError, match="axis_name="):
            build_it()


def test_one_value_on_each_of_several_devices_is_enough():
    ours = nn.SyncBatchNorm(3, axis_name="data")
    x = jnp.arange(6.0).reshape(2, 1, 3)
    out = jax.vmap(lambda x: call_flax(nnx.clone(ours), CASES[0], [x])[0], axis_name="data")(x)
    np.testing.assert_allclose(out[:, 0], [[-1.0] * 3, [1.0] * 3], atol=1e-4)
