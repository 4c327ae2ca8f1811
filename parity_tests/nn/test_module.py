"""Modules have torch's habits: modes, listing, printing, freezing; Flax's tools work on them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod._errors import ConvertError
from parity_tests.compare import bitwise


class TorchNet(tnn.Module):
    def __init__(self):
        super().__init__()
        self.stem = tnn.Conv2d(3, 4, 3)
        self.blocks = tnn.ModuleList(
            tnn.Sequential(tnn.Linear(4, 4), tnn.Dropout(0.5)) for _ in range(12)
        )
        self.scale = tnn.Parameter(torch.ones(4))
        self.norm = tnn.BatchNorm2d(4)
        self.register_buffer("steps", torch.zeros(2))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.head = tnn.Linear(4, 2)
        self.again = self.head


class FlaxNet(nn.Module):
    def __init__(self, *, rngs):
        self.stem = nn.Conv2d(3, 4, 3, rngs=rngs)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4, rngs=rngs), nn.Dropout(0.5, rngs=rngs)) for _ in range(12)
        )
        self.scale = nn.Parameter(jnp.ones(4))
        self.norm = nn.BatchNorm2d(4)
        self.steps = nn.Buffer(jnp.zeros(2))
        self.scratch = nn.Buffer(jnp.zeros(2), persistent=False)
        self.head = nn.Linear(4, 2, rngs=rngs)
        self.again = self.head

    def __call__(self, x):
        x = self.norm(self.stem(x)).mean((1, 2)) * self.scale[...]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture
def net():
    return FlaxNet(rngs=nnx.Rngs(0))


@pytest.fixture
def image():
    return jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 5, 3)), jnp.float32)


def renamed(text):
    return text.replace("FlaxNet", "TorchNet")


# --- listing ------------------------------------------------------------------------------------


def test_everything_is_listed_as_in_torch(net):
    theirs = TorchNet()
    for model in (net, nnx.merge(*nnx.split(net)), nnx.clone(net)):
        assert list(convert.to_torch(model)) == list(theirs.state_dict())
        for dedup in (True, False):
            ours = [n for n, _ in convert.named_parameters(model, remove_duplicate=dedup)]
            assert ours == [n for n, _ in theirs.named_parameters(remove_duplicate=dedup)]
            ours = [n for n, _ in nn.named_modules(model, remove_duplicate=dedup)]
            assert ours == [n for n, _ in theirs.named_modules(remove_duplicate=dedup)]
        ours = [n for n, _ in nn.named_children(model)]
        assert ours == [n for n in theirs._modules]
        assert renamed(str(model)) == str(theirs)


def test_order_survives_an_update_and_a_jit(net):
    before = list(convert.to_torch(net))
    graph, state = nnx.split(net)
    nnx.update(net, jax.tree.map(lambda x: x, state))
    assert list(convert.to_torch(net)) == before
    assert list(convert.to_torch(nnx.jit(lambda model: model)(net))) == before


def test_parameters_are_counted_as_in_torch(net):
    theirs = TorchNet()
    assert convert.parameter_count(net) == convert.parameter_count(theirs)
    for model in (net, theirs):
        convert.freeze(model, "blocks")
    assert convert.parameter_count(net, trainable_only=True) == convert.parameter_count(
        theirs, trainable_only=True
    )
    assert convert.parameter_count(net) == convert.parameter_count(theirs)


def test_a_module_that_contains_itself_is_followed_once():
    class Loop(nn.Module):
        def __init__(self):
            self.a = nn.Linear(2, 2, rngs=nnx.Rngs(0))
            self.me = self

    loop = Loop()
    assert [path for path, _ in nn.named_modules(loop)] == ["", "a"]
    assert list(convert.to_torch(loop)) == ["a.weight", "a.bias"]


# --- printing -----------------------------------------------------------------------------------


def test_nested_lists_are_printed_as_in_torch():
    def lists(lib, linear):
        return lib.ModuleList(
            [
                lib.ModuleList([linear(1), linear(1), linear(2)]),
                lib.ModuleList([linear(1), linear(1), linear(2)]),
                lib.Sequential(linear(1), linear(1)),
                lib.ModuleList([lib.Sequential(linear(3)), lib.Sequential(linear(3))]),
            ]
        )

    theirs = lists(tnn, lambda n: tnn.Linear(n, 1))
    ours = lists(nn, lambda n: nn.Linear(n, 1, rngs=nnx.Rngs(0)))
    assert str(ours) == str(theirs)


def test_extra_text_stands_before_the_children():
    class Outer(tnn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tnn.Identity()

        def extra_repr(self):
            return "first\nsecond=2"

    theirs = str(Outer())

    class Outer(nn.Module):
        def __init__(self):
            self.inner = nn.Identity()

        def extra_repr(self):
            return "first\nsecond=2"

    assert str(Outer()) == theirs


def test_flax_own_layers_are_printed_by_name():
    net = nn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nn.Identity())
    assert str(net) == "Sequential(\n  (0): Linear()\n  (1): Identity()\n)"


# --- modes --------------------------------------------------------------------------------------


def modes(net):
    return {getattr(m, "training", None) for _, m in nn.named_modules(net)}


def test_train_and_eval_reach_everything_below(net):
    assert modes(net) == {True}
    net.eval()
    assert modes(net) == {False}
    net.blocks.train()
    assert net.blocks[3][1].training
    assert not net.norm.training
    net.train()
    assert modes(net) == {True}
    assert not net.deterministic


def test_the_mode_survives_split_and_merge(net):
    net.norm.eval()
    again = nnx.merge(*nnx.split(net))
    assert (again.training, again.norm.training) == (True, False)


def test_training_is_read_only(net):
    with pytest.raises(AttributeError):
        net.training = False


def test_the_mode_decides_what_a_call_does(net, image):
    before = convert.to_torch(net)
    net.eval()
    np.testing.assert_array_equal(net(image), net(image))
    bitwise(convert.to_torch(net), before)
    net.train()
    assert not np.array_equal(net(image), net(image))
    assert convert.to_torch(net)["norm.num_batches_tracked"] == 2


def test_a_view_has_its_own_mode_and_the_same_weights(net, image):
    view = nnx.view(net, deterministic=True)
    assert modes(net) == {True}
    assert modes(view) == {False}
    net.head.kernel[...] = net.head.kernel[...] + 1
    np.testing.assert_array_equal(view.head.kernel[...], net.head.kernel[...])
    np.testing.assert_array_equal(view(image), view(image))


def test_a_part_in_evaluation_mode_stays_still_while_the_rest_trains(net, image):
    net.norm.eval()
    before = convert.to_torch(net.norm)
    net(image)
    bitwise(convert.to_torch(net.norm), before)


# --- freezing -----------------------------------------------------------------------------------


def test_frozen_parameters_are_listed_and_get_no_gradient(net, image):
    theirs = TorchNet()
    assert convert.freeze(net, "stem", "blocks.1", "head.bias") == convert.freeze(
        theirs, "stem", "blocks.1", "head.bias"
    )
    wanted = {n for n, p in theirs.named_parameters() if p.requires_grad}
    trained = {n for n, v in convert.named_parameters(net) if v.get_metadata("requires_grad", True)}
    assert trained == wanted
    assert list(dict(convert.named_parameters(net))) == list(dict(theirs.named_parameters()))
    grads = nnx.grad(
        lambda model: (model(image) ** 2).sum(), argnums=nnx.DiffState(0, nn.is_trainable)
    )(net)
    assert "stem" not in grads
    assert "1" not in grads["blocks"]
    assert "10" in grads["blocks"]
    assert "bias" not in grads["again"]  # a shared layer is listed under its first name in nnx


def test_an_optimizer_leaves_frozen_parameters_bit_for_bit(net, image):
    convert.freeze(net, "blocks")
    optimizer = nnx.Optimizer(net, optax.adamw(1e-2, weight_decay=0.1), wrt=nn.is_trainable)
    before = convert.to_torch(net)
    grads = nnx.grad(
        lambda model: (model(image) ** 2).sum(), argnums=nnx.DiffState(0, nn.is_trainable)
    )(net)
    optimizer.update(net, grads)
    after = convert.to_torch(net)
    frozen = [n for n in before if n.startswith("blocks.")]
    bitwise({n: after[n] for n in frozen}, {n: before[n] for n in frozen})
    assert not np.array_equal(after["head.weight"], before["head.weight"])
    assert not np.array_equal(after["scale"], before["scale"])


def test_unfreezing_and_unknown_paths(net):
    everything = convert.freeze(net)
    assert convert.parameter_count(net, trainable_only=True) == 0
    assert convert.unfreeze(net) == everything
    with pytest.raises(ConvertError, match=r"'stam'.*'stem'.*Nothing was changed") as error:
        convert.freeze(net, "head", "stam", "blocks.99")
    assert "'blocks.99'" in str(error.value)
    assert convert.parameter_count(net, trainable_only=True) == convert.parameter_count(net)


def test_a_parameter_may_be_made_frozen():
    net = nn.ParameterList([nn.Parameter(jnp.ones(2), requires_grad=False), jnp.ones(3)])
    assert convert.parameter_count(net, trainable_only=True) == 3


# --- Flax's tools -------------------------------------------------------------------------------


@pytest.fixture
def classes_as_before():
    """nnx.tabulate leaves inherited methods behind in every class, and nnx.capture then loops."""
    classes = {type(m) for _, m in nnx.iter_modules(FlaxNet(rngs=nnx.Rngs(0)))}
    before = {cls: set(vars(cls)) for cls in classes}
    yield
    for cls, names in before.items():
        for name in set(vars(cls)) - names:
            delattr(cls, name)


@pytest.mark.usefixtures("classes_as_before")
def test_tabulate_lists_every_layer(net, image):
    net.eval()
    table = nnx.tabulate(net, image, console_kwargs={"width": 200, "force_terminal": False})
    for row in ("stem", "Conv2d", "blocks/11/0", "norm", "Linear", "float32[2,4,3,4]"):
        assert row in table
    assert "Total Parameters" in table


def test_capture_gives_what_forward_hooks_would(net, image):
    """torch registers a hook on a module; here the outputs of all modules are captured."""
    net.eval()
    forward = nnx.capture(
        lambda model, x: model(x), nnx.Intermediate, method_outputs=nnx.Intermediate
    )
    out, seen = forward(net, image)

    def output(state):
        return state["__call__"].get_value()[0]

    stem = net.stem(image)
    np.testing.assert_array_equal(output(seen), out)
    np.testing.assert_array_equal(output(seen["stem"]), stem)
    np.testing.assert_array_equal(output(seen["norm"]), net.norm(stem))
    assert output(seen["blocks"]["11"]["1"]).shape == (2, 4)  # a Dropout inside a Sequential
    assert len(seen["blocks"]) == 12


def test_sow_keeps_one_value():
    class Net(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            x = self.fc(x)
            self.sow(nnx.Intermediate, "hidden", x)
            return x.sum()

    net, x = Net(), jnp.ones((4, 3))
    _, seen = nnx.capture(lambda model, x: model(x), nnx.Intermediate)(net, x)
    np.testing.assert_array_equal(seen["hidden"].get_value()[0], net.fc(x))
    assert list(convert.to_torch(net)) == ["fc.weight", "fc.bias"]


def test_a_perturbation_gives_the_gradient_at_a_point():
    class Net(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return (self.perturb("hidden", self.fc(x)) ** 2).sum()

    net, x = Net(), jnp.ones((4, 3))
    _, at = nnx.capture(lambda model, x: model(x), nnx.Perturbation)(net, x)
    graph, state = nnx.split(net)

    def total(at):
        return nnx.capture(nnx.merge(graph, state, copy=True), init=at)(x)

    grads = jax.grad(total)(at)
    np.testing.assert_allclose(grads["hidden"][...], 2 * net.fc(x), rtol=1e-6)


def test_shapes_without_values(net):
    shapes = nnx.eval_shape(lambda: FlaxNet(rngs=nnx.Rngs(0)))
    assert str(shapes) == str(net)
    assert [s.key for s in convert.slots(shapes)] == [s.key for s in convert.slots(net)]


def test_vmap_makes_an_ensemble(image):
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return nn.Linear(4, 2, rngs=rngs)

    ensemble = make(nnx.Rngs(0))
    assert ensemble.kernel.shape == (3, 4, 2)
    out = nnx.vmap(lambda m, x: m(x), in_axes=(0, None))(ensemble, jnp.ones((5, 4)))
    assert out.shape == (3, 5, 2)
    assert not np.array_equal(out[0], out[1])


class Untied(nn.Module):
    """No shared module or variable: such a model runs in NNX's tree mode too."""

    def __init__(self, *, rngs):
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, rngs=rngs), nn.BatchNorm2d(4), nn.Dropout(0.5, rngs=rngs)
        )
        self.table = nn.ModuleDict({"b": nn.Linear(4, 3, rngs=rngs), "a": nn.Flatten()})
        self.gains = nn.ParameterList([jnp.ones(3)])

    def __call__(self, x):
        return self.table["b"](self.body(x).mean((1, 2))) * self.gains[0][...]


@pytest.fixture
def untied():
    return Untied(rngs=nnx.Rngs(0))


def test_tree_mode_splits_and_merges(untied, image):
    again = nnx.merge(*nnx.split(untied, graph=False))
    assert list(convert.to_torch(again)) == list(convert.to_torch(untied))
    assert str(again) == str(untied)
    again.eval()
    untied.eval()
    np.testing.assert_array_equal(again(image), untied(image))


def test_tree_mode_jit_and_grad(untied, image):
    """Without graph updates a call returns what it changed."""

    def step(model, x):
        out = model(x)
        return out, model.body[1].mean[...], model.body[1].num_batches_tracked[...]

    compiled = nnx.jit(step, graph=False, graph_updates=False)
    _, mean, count = compiled(nnx.clone(untied), image)
    np.testing.assert_allclose(mean, 0.1 * untied.body[0](image).mean((0, 1, 2)), rtol=1e-5)
    assert count == 1
    untied.eval()
    graph, params, rest = nnx.split(untied, nnx.Param, ..., graph=False)

    def loss(params):
        return (nnx.merge(graph, params, rest, copy=True)(image) ** 2).sum()

    got = jax.tree.leaves(nnx.grad(loss, graph=False, graph_updates=False)(params))
    want = jax.tree.leaves(nnx.grad(lambda model: (model(image) ** 2).sum())(untied))
    assert len(got) == len(want) == 7
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)


def test_jax_sees_a_module_as_a_pytree(untied, image):
    untied.eval()
    copy = jax.tree.map(lambda x: x, untied)
    assert str(copy) == str(untied)
    assert list(convert.to_torch(copy)) == list(convert.to_torch(untied))
    np.testing.assert_array_equal(copy(image), untied(image))
