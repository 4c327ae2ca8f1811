from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fluxmod
from fluxmod import convert, nn, optim
from fluxmod.train import Trainer
from parity_tests.compare import bitwise, same
from parity_tests.train.nets import (
    Net,
    batches,
    frozen_encoder,
    loss,
    stacked,
    trainer,
    values,
)

TIGHT = 1e-12
"""Between two compilations of the same float64 arithmetic."""


def smooth():
    """Adam would make steps of the rounding noise of a zero gradient (a bias before BatchNorm)."""
    return optim.SGD(lr=0.05, momentum=0.9)


def net64():
    return Net(param_dtype=jnp.float64, rngs=nnx.Rngs(0))


@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_a_loop_written_by_hand():
    model, tx = net64(), optax.chain(optim.clip_grad_norm(0.5), smooth())
    fast = Trainer(model, tx, loss)
    optimizer = nnx.Optimizer(model, tx, wrt=nn.is_trainable)
    for batch in batches(4, dtype=np.float64):
        wrt = nnx.DiffState(0, nn.is_trainable)
        (value, aux), grads = nnx.value_and_grad(loss, argnums=wrt, has_aux=True)(model, batch)
        optimizer.update(model, grads)
        metrics = fast.step(batch)
        want = {"loss": value, "grad_norm": optax.tree.norm(grads), **aux}
        same({k: metrics[k] for k in want}, want, TIGHT)
    same(convert.to_torch(fast.model), convert.to_torch(model), TIGHT)
    assert int(fast.state()["rng/body.drop.rngs.count"]) > 0


@pytest.mark.usefixtures("x64")
def test_a_chunk_is_the_same_as_its_steps():
    one, many = trainer(net64(), smooth()), trainer(net64(), smooth())
    chunk = batches(5, dtype=np.float64)
    single = [one.step(batch) for batch in chunk]
    metrics = many.steps(stacked(chunk))
    want = {key: np.stack([m[key] for m in single]) for key in single[0]}
    same({k: metrics[k] for k in want}, want, TIGHT)
    same(values(many), values(one), TIGHT)
    assert (one.steps_done, many.steps_done) == (5, 5)


def test_the_model_that_was_passed_is_left_alone():
    model = Net(rngs=nnx.Rngs(0))
    before = convert.to_torch(model)
    fit = trainer(model)
    fit.step(batches(1)[0])
    bitwise(convert.to_torch(model), before)
    assert not np.array_equal(convert.to_torch(fit.model)["head.weight"], before["head.weight"])
    assert fit.model.training


def test_a_model_handed_out_stays_as_it_was():
    fit, batch = trainer(), batches(1)[0]
    first = fit.model
    kept = convert.to_torch(first)
    assert fit.model is first
    state = fit.opt_state
    fit.step(batch)
    bitwise(convert.to_torch(first), kept)
    assert int(state.count) == 0
    assert fit.model is not first


def test_state_is_donated():
    fit = trainer()
    before = fit.state()["params/head.kernel"]
    fit.step(batches(1)[0])
    assert before.is_deleted()


def test_nothing_is_traced_twice_and_the_module_is_not_walked(monkeypatch):
    traces = []

    def counted(model, batch):
        traces.append(1)
        return loss(model, batch)

    fit = Trainer(Net(rngs=nnx.Rngs(0)), optim.SGD(momentum=0.9), counted)
    chunk = batches(4)
    fit.step(chunk[0])
    traced = len(traces)
    monkeypatch.setattr(nnx, "split", None)
    monkeypatch.setattr(nnx, "merge", None)
    for batch in chunk:
        fit.step(batch)
    assert len(traces) == traced


@pytest.mark.parametrize("weights", ["drawn", "torch's", "in part tied to a device"])
def test_the_step_is_compiled_once(weights, caplog):
    model = Net(rngs=nnx.Rngs(0))
    if weights == "torch's":
        convert.to_flax(convert.to_torch(Net(rngs=nnx.Rngs(1))), model)
    elif weights != "drawn":
        model.head.kernel[...] = jax.device_put(model.head.kernel[...], jax.devices()[0])
    fit = Trainer(model, optim.Adam(), loss)
    chunk = batches(3)
    with jax.log_compiles():
        for batch in chunk:
            fit.step(batch)
    assert sum("Compiling jit(step)" in record.getMessage() for record in caplog.records) == 1


def test_weakly_typed_values_do_not_cost_a_second_trace():
    class Scale(nn.Module):
        def __init__(self):
            self.factor = nn.Parameter(jnp.asarray(2.0))

        def __call__(self, x):
            return x * self.factor[...]

    traces = []

    def counted(model, batch):
        traces.append(1)
        return jnp.sum(model(batch))

    fit = Trainer(Scale(), optim.SGD(lr=0.1), counted)
    fit.step(np.ones(3, np.float32))
    fit.step(np.ones(3, np.float32))
    assert len(traces) == 1
    fit.steps(np.ones((2, 3), np.float32))


def test_a_tie_survives_training():
    class Tied(nn.Module):
        def __init__(self, rngs):
            self.first = nn.Linear(4, 4, rngs=rngs)
            self.second = nn.Linear(4, 4, rngs=rngs)
            self.second.kernel = self.first.kernel

        def __call__(self, x):
            return self.second(jnp.tanh(self.first(x)))

    def squares(model, x):
        return jnp.mean(model(x) ** 2)

    def untied(kernels, x):
        hidden = jnp.tanh(x @ kernels[0] + model.first.bias[...])
        return jnp.mean((hidden @ kernels[1] + model.second.bias[...]) ** 2)

    model = Tied(nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    kernel = model.first.kernel[...]
    grads = jax.grad(untied)((kernel, kernel), x)
    fit = Trainer(model, optim.SGD(lr=0.1), squares)
    fit.step(x)
    after = fit.model
    assert after.first.kernel is after.second.kernel
    # one Variable moves by the sum of what its two uses ask for
    np.testing.assert_allclose(after.first.kernel[...], kernel - 0.1 * sum(grads), rtol=1e-5)
    fit.steps(x[None])
    assert fit.model.first.kernel is fit.model.second.kernel


@pytest.mark.parametrize("tx", [optim.AdamW(lr=0.1), optim.SGD(lr=0.1, momentum=0.9)])
def test_a_frozen_part_in_eval_mode_stays_bit_for_bit(tx):
    fit = trainer(frozen_encoder(), tx)
    before = values(fit)
    fit.step(batches(1)[0])
    fit.steps(stacked(batches(3)))
    after = values(fit)
    still = [name for name in before if "encoder." in name]
    assert {name.partition("/")[0] for name in still} == {"frozen", "rng", "buffers"}
    bitwise({name: after[name] for name in still}, {name: before[name] for name in still})
    moved = [n for n in before if "body." in n and n.partition("/")[0] in ("params", "buffers")]
    assert all(before[name].tobytes() != after[name].tobytes() for name in moved)
    assert not [name for name in after if name.startswith("optimizer/") and "encoder" in name]
    assert not fit.model.encoder.training
    assert fit.model.body.training


def test_a_frozen_part_in_train_mode_still_gathers_statistics():
    net = Net(rngs=nnx.Rngs(0))
    fluxmod.freeze(net, "encoder")
    fit = trainer(net)
    before = values(fit)
    fit.step(batches(1)[0])
    after = values(fit)
    assert after["buffers/encoder.norm.num_batches_tracked"] == 1
    assert not np.array_equal(
        after["buffers/encoder.norm.mean"], before["buffers/encoder.norm.mean"]
    )
    name = "frozen/encoder.fc.kernel"
    bitwise({name: after[name]}, {name: before[name]})


def test_evaluation_and_prediction_change_nothing():
    fit, data = trainer(), batches(3)
    fit.step(data[0])
    before = values(fit)
    model = fit.model
    first, second = fit.evaluate(data), fit.evaluate(data)
    assert first == second
    model.eval()
    logits = model(data[0]["x"])
    np.testing.assert_allclose(fit.predict(data[0]["x"]), logits, rtol=1e-5, atol=1e-6)
    want = np.mean([loss(model, batch)[0] for batch in data])
    assert first["loss"] == pytest.approx(want, rel=1e-5)
    assert set(first) == {"loss", "accuracy"}
    bitwise(values(fit), before)


def test_evaluation_weighs_batches_by_their_size():
    fit = trainer()
    everything = batches(1, rows=10)[0]
    parts = [{k: v[:7] for k, v in everything.items()}, {k: v[7:] for k, v in everything.items()}]
    assert fit.evaluate(parts)["loss"] == pytest.approx(
        fit.evaluate([everything])["loss"], rel=1e-6
    )
    with pytest.raises(ValueError, match="no batch was added"):
        fit.evaluate([])


@pytest.mark.usefixtures("x64")
def test_a_parameter_that_the_forward_pass_changes_keeps_the_change():
    class Clamped(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(jnp.array([0.5, 3.0], jnp.float64))

        def __call__(self, x):
            self.weight[...] = jax.lax.stop_gradient(jnp.minimum(self.weight[...], 1.0))
            return x * self.weight[...]

    def total(model, x):
        return jnp.sum(model(x)) + jnp.sum(model.weight[...] * 0)

    fit = Trainer(Clamped(), optim.SGD(lr=0.5), total)
    fit.step(np.zeros(2))
    np.testing.assert_array_equal(fit.model.weight[...], [0.5, 1.0])


def test_intermediate_values_do_not_pile_up():
    class Watched(nn.Module):
        def __init__(self, rngs):
            self.fc = nn.Linear(2, 1, rngs=rngs)

        def __call__(self, x):
            y = self.fc(x)
            self.seen = nnx.Intermediate(y)
            return y

    fit = Trainer(Watched(nnx.Rngs(0)), optim.SGD(), lambda model, x: jnp.sum(model(x)))
    fit.steps(np.ones((2, 3, 2), np.float32))
    fit.step(np.ones((3, 2), np.float32))
    assert list(fit.state()) == ["params/fc.bias", "params/fc.kernel", "optimizer/count"]


def test_an_optimizer_state_is_taken_over():
    batch, tx = batches(1)[0], optim.Adam(lr=0.01)
    first = trainer(tx=tx)
    first.step(batch)
    second = trainer(first.model, optim.Adam(lr=0.01), opt_state=first.opt_state)
    first.step(batch)
    second.step(batch)
    bitwise(values(second), values(first))
    with pytest.raises(ValueError, match="opt_state is not of this model and transformation"):
        trainer(tx=optim.SGD(), opt_state=first.opt_state)


# What is refused


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda m, b: m(b["x"]), TypeError, r"floating scalar.*float32\(16, 5\)"),
        (lambda m, b: jnp.argmax(m(b["x"])), TypeError, "floating scalar.*int32"),
        (lambda m, b: (m(b["x"]).sum(), m(b["x"])), TypeError, "a dict of named metrics, got"),
        (
            lambda m, b: (m(b["x"]).sum(), {"loss": 1.0}),
            ValueError,
            "'loss'. are the trainer's own",
        ),
    ],
)
def test_a_loss_that_returns_something_else_is_refused(bad, error, message):
    fit = Trainer(Net(rngs=nnx.Rngs(0)), optim.SGD(), bad)
    before = values(fit)
    with pytest.raises(error, match=message):
        fit.step(batches(1)[0])
    bitwise(values(fit), before)


def test_a_step_that_changes_the_model_is_refused():
    def grows(model, batch):
        model.extra = nn.Buffer(jnp.zeros(2))
        return loss(model, batch)

    def widens(model, batch):
        mean = model.body.norm.mean
        mean.set_value(mean.get_value().astype(jnp.bfloat16))
        return loss(model, batch)

    for change, message in [
        (grows, r"changed what the model holds: new \['buffers/extra'\], gone \[\]"),
        (widens, r"buffers/body.norm.mean from float32\(8,\) to bfloat16\(8,\)"),
    ]:
        fit = Trainer(Net(rngs=nnx.Rngs(0)), optim.SGD(), change)
        with pytest.raises((ValueError, TypeError), match=message):
            fit.step(batches(1)[0])


def test_float64_outside_x64_is_refused_and_changes_nothing():
    batch = batches(1, dtype=np.float64)[0]
    with jax.enable_x64(True):
        fit = trainer(net64(), smooth())
        before = values(fit)
    with (
        pytest.warns((UserWarning, FutureWarning)),
        pytest.raises(TypeError, match=r"to float32.*inside jax.enable_x64\(True\)"),
    ):
        fit.step(batch)
    with jax.enable_x64(True):
        bitwise(values(fit), before)


def test_chunks_of_different_lengths_are_refused():
    fit, chunk = trainer(), stacked(batches(3))
    for bad in ({**chunk, "y": chunk["y"][:2]}, {"x": np.float32(1)}, {"x": np.zeros((0, 2))}):
        with pytest.raises(ValueError, match="needs the same leading axis of steps"):
            fit.steps(bad)
    assert fit.steps_done == 0


def test_a_state_that_does_not_fit_is_refused():
    fit = trainer()
    before, state = values(fit), fit.state()
    wrong = [
        {k: v for k, v in state.items() if k != "params/head.bias"},
        {**state, "params/head.bias": jnp.zeros(4)},
        {**state, "params/head.bias": jnp.zeros(5, jnp.bfloat16)},
        {**state, "params/other": jnp.zeros(5)},
    ]
    for arrays in wrong:
        with pytest.raises(ValueError, match="params/.*Nothing was changed"):
            fit.load_state(arrays, steps_done=3)
    bitwise(values(fit), before)
    assert fit.steps_done == 0


@pytest.mark.parametrize("kind", ["Conv2d", "Linear"])
def test_convolutions_are_not_put_into_a_loop_on_the_cpu(kind, monkeypatch):
    def squares(model, batch):
        return jnp.mean(model(batch["x"]) ** 2)

    sizes = (4, 3, 3) if kind == "Conv2d" else (4, 3)
    layer = getattr(nn, kind)(*sizes, rngs=nnx.Rngs(0))
    one, many = (Trainer(nnx.clone(layer), optim.Adam(), squares) for _ in range(2))
    looped, calls = many._steps, []
    monkeypatch.setattr(many, "_steps", lambda *args: calls.append(1) or looped(*args))
    xs = np.random.default_rng(0).standard_normal((3, 2, 6, 6, 4), np.float32)
    got = many.steps({"x": xs})
    np.testing.assert_allclose(got["loss"], [one.step({"x": x})["loss"] for x in xs], rtol=1e-6)
    assert many.steps_done == 3
    assert bool(calls) is (kind == "Linear")
