from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fluxmod import convert, optim
from fluxmod.train import Checkpoints
from fluxmod.train._sharding import placement
from parity_tests.compare import bitwise, same
from parity_tests.train.nets import Net, batches, frozen_encoder, stacked, trainer, values

ROOT = Path(__file__).parents[2]
LIMIT = 1e-9
"""Of the training level."""


def mesh(*shape, names=("data",)):
    return Mesh(np.array(jax.devices()[:8]).reshape(shape or (8,)), names)


def clipped():
    return optax.chain(optim.clip_grad_norm(0.5), optim.SGD(lr=0.05, momentum=0.9))


def build(**options):
    return trainer(Net(param_dtype=jnp.float64, rngs=nnx.Rngs(0)), clipped(), **options)


def check_against_one_device(fit, alone):
    """BatchNorm sees the whole batch, dropout draws the same masks, and so on: equal all over."""
    data = batches(6, dtype=np.float64)
    for batch in data[:2]:
        want, got = alone.step(batch), fit.step(batch)
        same({k: got[k] for k in want}, want, LIMIT)
    want, got = alone.steps(stacked(data[2:])), fit.steps(stacked(data[2:]))
    same({k: got[k] for k in want}, want, LIMIT)
    same(values(fit), values(alone), LIMIT)
    same(convert.to_torch(fit.model), convert.to_torch(alone.model), LIMIT)
    assert fit.evaluate(data) == pytest.approx(alone.evaluate(data), rel=LIMIT)
    same({"logits": fit.predict(data[0]["x"])}, {"logits": alone.predict(data[0]["x"])}, LIMIT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strategy", [None, "data", "fsdp"])
def test_eight_devices_are_one(strategy):
    check_against_one_device(build(mesh=mesh(), strategy=strategy), build())


@pytest.mark.usefixtures("x64")
def test_two_axes_and_explicit_ones_are_fine():
    check_against_one_device(
        build(mesh=mesh(4, 2, names=("data", "fsdp")), strategy="fsdp"), build()
    )
    made = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    fit, alone, batch = build(mesh=made), build(), batches(1, dtype=np.float64)[0]
    assert float(fit.step(batch)["loss"]) == pytest.approx(float(alone.step(batch)["loss"]))


@pytest.mark.usefixtures("x64")
def test_fsdp_splits_parameters_and_their_optimizer_state():
    fit = build(mesh=mesh(), strategy="fsdp")
    fit.step(batches(1, dtype=np.float64)[0])
    specs = {name: v.sharding.spec for name, v in fit.state().items()}
    split = ("data",)
    assert specs["params/encoder.fc.kernel"] == P(None, split)  # (6, 16)
    assert specs["params/body.fc.kernel"] == P(split, None)  # (16, 8): the larger
    assert specs["params/head.kernel"] == P(split, None)  # (8, 5)
    assert specs["params/head.bias"] == P()  # (5,): not divisible
    for name, spec in specs.items():
        if name.startswith("params/"):
            moment = name.replace("params/", "optimizer/1.slots.momentum_buffer.")
            assert specs[moment] == spec
        if name.startswith(("buffers/", "rng/")):
            assert spec == P()
    kernel = fit.state()["params/encoder.fc.kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(6, 2)}


def test_a_frozen_part_is_split_too_and_stays():
    fit = trainer(frozen_encoder(), mesh=mesh(), strategy="fsdp")
    before = values(fit)
    fit.step(batches(1)[0])
    assert not fit.state()["frozen/encoder.fc.kernel"].sharding.is_fully_replicated
    still = [name for name in before if "encoder." in name]
    after = values(fit)
    bitwise({name: after[name] for name in still}, {name: before[name] for name in still})


@pytest.mark.usefixtures("x64")
def test_a_checkpoint_goes_from_one_placement_to_another(tmp_path):
    fit, alone = build(mesh=mesh(), strategy="fsdp"), build()
    fit.step(batches(1, dtype=np.float64)[0])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(fit)
    checkpoints.restore(alone)
    bitwise(values(alone), values(fit))
    halves = build(mesh=Mesh(np.array(jax.devices()[:2]), ("data",)), strategy="fsdp")
    checkpoints.restore(halves)
    bitwise(values(halves), values(fit))
    kernel = halves.state()["params/encoder.fc.kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(6, 8)}


def test_no_key_and_scalars_may_be_in_a_batch():
    where = placement(mesh(), "data")
    batch = where.put_batch({"x": np.zeros((16, 3)), "temperature": 2.0})
    assert batch["x"].sharding.spec == P(("data",))
    assert batch["temperature"].sharding.spec == P()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="strategy is 'data' or 'fsdp', got 'both'"):
        trainer(mesh=mesh(), strategy="both")
    with pytest.raises(ValueError, match="strategy='fsdp' needs a mesh"):
        trainer(strategy="fsdp")
    fit = trainer(mesh=mesh())
    with pytest.raises(ValueError, match=r"axis 0 .* by the 8 devices.*\(12, 6\).*\(12,\)"):
        fit.step(batches(1, rows=12)[0])
    with pytest.raises(ValueError, match="axis 1 of a batch must divide by the 8 devices"):
        fit.steps(stacked(batches(2, rows=12)))
    assert fit.steps_done == 0


# Two processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["data", "fsdp"])
def test_two_processes_are_one(tmp_path, strategy):
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    port = str(free_port())
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "parity_tests.train.two", str(i), port, strategy, str(tmp_path)],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    ended = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(e for _, e in ended)
    with jax.enable_x64(True):
        alone = build()
        data = batches(4, dtype=np.float64)
        losses = [float(alone.step(batch)["loss"]) for batch in data]
        for out, _ in ended:
            seen = json.loads(out.splitlines()[-1])
            assert seen["devices"] == 4
            assert seen["losses"] == pytest.approx(losses, rel=LIMIT)
        want = convert.to_torch(alone.model)
        for i in range(2):
            with np.load(tmp_path / f"weights{i}.npz") as got:
                same({name: got[name] for name in want}, want, LIMIT)
        resumed = build()
        Checkpoints(tmp_path / "run").restore(resumed)  # written by two processes, read by one
        same(values(resumed), values(alone), LIMIT)
