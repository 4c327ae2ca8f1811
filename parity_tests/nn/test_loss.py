from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod.nn import functional as F
from parity_tests.compare import same
from parity_tests.nn.cases import CHECKS, Case, both_raise, run
from parity_tests.nn.twins import Ints

pytestmark = [
    # torch, of KLDivLoss with reduction='mean': a change announced for its next major release
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning"),
]

INF, NAN = np.inf, np.nan


def case(name, label, x, *, weights=None, flax=None, **kwargs):
    """``weights``: shapes of the weights, given to each side as it takes them."""
    rng = np.random.default_rng(3)
    drawn = {k: 0.5 + rng.random(shape) for k, shape in (weights or {}).items()}
    ours = {k: v.astype(np.float32) for k, v in drawn.items()}
    theirs = {k: torch.from_numpy(v).float() for k, v in drawn.items()}
    cls = getattr(tnn, name), getattr(nn, name)
    return Case(
        f"{name}-{label}", *cls, (), {**kwargs, **theirs}, x, flax_kwargs={**ours, **(flax or {})}
    )


def probabilities(*shapes):
    """Uniform on (0, 1), away from both ends."""
    return lambda rng: tuple(0.01 + 0.98 * rng.random(shape) for shape in shapes)


def log_and_probabilities(shape, axis=-1):
    def draw(rng):
        logits = rng.standard_normal(shape)
        p = np.exp(rng.standard_normal(shape))
        log_p = logits - np.log(np.exp(logits).sum(axis, keepdims=True))
        return log_p, p / p.sum(axis, keepdims=True)

    return draw


def given(*values):
    arrays = tuple(np.array(v) for v in values)
    return lambda rng: arrays


REDUCTIONS = ("none", "mean", "sum")
X, Y = (4, 5), Ints((4,), 5)
MAP, MAP_Y = (2, 5, 3, 4), Ints((2, 3, 4), 5)


def with_ignored(shape, classes, ignored):
    def draw(rng):
        labels = rng.integers(0, classes, (shape[0], *shape[2:]))
        labels[rng.random(labels.shape) < 0.4] = ignored
        return rng.standard_normal(shape), labels

    return draw


LABELS = [
    case(name, f"{label}-{reduction}", x, reduction=reduction, weights=w, **kwargs)
    for name in ("CrossEntropyLoss", "NLLLoss")
    for reduction in REDUCTIONS
    for label, x, w, kwargs in [
        ("plain", [X, Y], None, {}),
        ("weight", [X, Y], {"weight": (5,)}, {}),
        ("map", [MAP, MAP_Y], {"weight": (5,)}, {}),
        ("ignored", with_ignored((6, 5), 5, -100), {"weight": (5,)}, {}),
        ("map-ignored-2", with_ignored(MAP, 5, 2), {"weight": (5,)}, {"ignore_index": 2}),
        ("one-row", [(5,), Ints((), 5)], {"weight": (5,)}, {}),
        ("all-ignored", given(np.ones((3, 5)), [-100] * 3), None, {}),
        ("ignored-beyond", given(np.ones((3, 5)), [0, 7, 2]), None, {"ignore_index": 7}),
        ("empty", [(0, 5), Ints((0,), 5)], None, {}),
        ("rank-3", [(2, 5, 3), Ints((2, 3), 5)], None, {}),
        ("rank-5", [(2, 5, 3, 2, 2), Ints((2, 3, 2, 2), 5)], None, {}),
    ]
]
SMOOTH = [
    case("CrossEntropyLoss", f"smooth-{label}-{reduction}", x, reduction=reduction, weights=w, **k)
    for reduction in REDUCTIONS
    for label, x, w, k in [
        ("plain", [X, Y], None, {"label_smoothing": 0.1}),
        ("weight", [X, Y], {"weight": (5,)}, {"label_smoothing": 0.3}),
        ("full", [MAP, MAP_Y], {"weight": (5,)}, {"label_smoothing": 1.0}),
        ("ignored", with_ignored(MAP, 5, -100), {"weight": (5,)}, {"label_smoothing": 0.2}),
        ("one-row", [(5,), Ints((), 5)], None, {"label_smoothing": 0.1}),
        ("soft", probabilities(X, X), None, {"label_smoothing": 0.1}),
    ]
]
SOFT = [
    case("CrossEntropyLoss", f"soft-{label}-{reduction}", x, reduction=reduction, weights=w)
    for reduction in REDUCTIONS
    for label, x, w in [
        ("plain", probabilities(X, X), None),
        ("weight", probabilities(X, X), {"weight": (5,)}),
        ("map", probabilities(MAP, MAP), {"weight": (5,)}),
        ("one-row", probabilities((5,), (5,)), {"weight": (5,)}),
        ("empty", probabilities((0, 5), (0, 5)), None),
    ]
]
ELEMENTS = [
    case(name, f"{label}{kwargs or ''}-{reduction}", x, reduction=reduction, **kwargs)
    for reduction in REDUCTIONS
    for name, kwargs in [
        ("MSELoss", {}),
        ("L1Loss", {}),
        ("SmoothL1Loss", {}),
        ("SmoothL1Loss", {"beta": 0.3}),
        ("SmoothL1Loss", {"beta": 0.0}),
        ("HuberLoss", {}),
        ("HuberLoss", {"delta": 0.3}),
    ]
    for label, x in [
        ("plain", [X, X]),
        ("scalar", [(), ()]),
        ("empty", [(0, 3), (0, 3)]),
        ("kinks", given([NAN, INF, -INF, 2.0, 1.0, 0.0, 1.3, 0.7, -2.0, 5.0], [1.0] * 10)),
    ]
]
BINARY = [
    case(name, f"{label}-{reduction}", x, reduction=reduction, weights=w)
    for reduction in REDUCTIONS
    for name, label, x, w in [
        ("BCELoss", "plain", probabilities(X, X), None),
        ("BCELoss", "weight", probabilities(X, X), {"weight": X}),
        ("BCELoss", "weight-last", probabilities(X, X), {"weight": (5,)}),
        ("BCELoss", "ends", given([0.0, 1.0, 0.0, 1.0, 0.5], [0.0, 1.0, 1.0, 0.0, 0.3]), None),
        ("BCELoss", "empty", probabilities((0, 3), (0, 3)), None),
        ("BCEWithLogitsLoss", "plain", [X, X], None),
        ("BCEWithLogitsLoss", "weight", [X, X], {"weight": (5,)}),
        ("BCEWithLogitsLoss", "pos", [X, X], {"pos_weight": (5,)}),
        ("BCEWithLogitsLoss", "both", [X, X], {"weight": X, "pos_weight": (4, 1)}),
        ("BCEWithLogitsLoss", "ends",
         given([INF, INF, -INF, -INF, NAN, 0, 100, -100, 1e4], [0, 1.0, 0, 1, 0, 1, 1, 0, 0.5]),
         None),
        ("BCEWithLogitsLoss", "empty", [(0, 3), (0, 3)], None),
    ]
]  # fmt: skip
DIVERGENCE = [
    case("KLDivLoss", f"{label}-{log}-{reduction}", x, reduction=reduction, log_target=log)
    for reduction in (*REDUCTIONS, "batchmean")
    for log in (False, True)
    for label, x in [
        ("plain", log_and_probabilities((4, 5))),
        ("scalar", given(-1.0, 0.5)),
        ("broadcast", lambda rng: (rng.standard_normal((4, 5)), rng.random((1, 5)))),
        ("empty", given(np.ones((0, 3)), np.ones((0, 3)))),
    ]
]
CASES = [*LABELS, *SMOOTH, *SOFT, *ELEMENTS, *BINARY, *DIVERGENCE]
FIRST = list({(c.torch, tuple(sorted(c.flax_kwargs))): c for c in reversed(CASES)}.values())

SHAPES_REFUSED = [
    case("CrossEntropyLoss", "labels-of-another-length", [X, Ints((3,), 5)]),
    case("CrossEntropyLoss", "map-of-another-size", [MAP, Ints((2, 3, 3), 5)]),
    case("CrossEntropyLoss", "too-few-axes", [(2, 5, 3, 1), Ints((2, 3), 5)]),
    case("CrossEntropyLoss", "probabilities-of-another-size", [X, (4, 6)]),
    case("CrossEntropyLoss", "scalar", [(), Ints((), 5)]),
    case("CrossEntropyLoss", "weight", [X, Y], weights={"weight": (4,)}),
    case("CrossEntropyLoss", "soft-weight", [X, X], weights={"weight": (4,)}),
    case("CrossEntropyLoss", "smoothing-above-1", [X, Y], label_smoothing=1.5),
    case("CrossEntropyLoss", "soft-ignored", [X, X], ignore_index=1),
    case("CrossEntropyLoss", "reduction", [X, Y], reduction="batchmean"),
    case("NLLLoss", "labels-of-another-length", [X, Ints((3,), 5)]),
    case("NLLLoss", "map-of-another-size", [MAP, Ints((2, 3, 3), 5)]),
    case("NLLLoss", "scalar", [(), Ints((), 5)]),
    case("NLLLoss", "weight", [X, Y], weights={"weight": (4,)}),
    *(case(name, "no-broadcast", [X, (3,)]) for name in ("MSELoss", "L1Loss", "SmoothL1Loss")),
    *(case(name, "reduction", [X, X], reduction="avg") for name in ("MSELoss", "HuberLoss")),
    case("SmoothL1Loss", "beta", [X, X], beta=-1.0),
    case("HuberLoss", "delta-0", [X, X], delta=0.0),
    case("BCELoss", "shape", probabilities(X, (1, 5))),
    case("BCELoss", "above-1", given([1.5], [1.0])),
    case("BCELoss", "below-0", given([-0.5], [1.0])),
    case("BCELoss", "nan", given([NAN], [1.0])),
    case("BCELoss", "target-above-1", given([0.5], [2.0])),
    case("BCELoss", "weight", probabilities(X, X), weights={"weight": (3,)}),
    case("BCELoss", "weight-larger", probabilities(X, X), weights={"weight": (2, 4, 5)}),
    case("BCEWithLogitsLoss", "shape", [X, (1, 5)]),
    case("BCEWithLogitsLoss", "pos-weight", [X, X], weights={"pos_weight": (3,)}),
    case("BCEWithLogitsLoss", "pos-larger", [X, X], weights={"pos_weight": (2, 1, 5)}),
    case("KLDivLoss", "no-broadcast", [X, (3,)]),
]
TYPES_REFUSED = [
    case("CrossEntropyLoss", "float-labels", [X, (4,)]),
    case("CrossEntropyLoss", "bool-labels", given(np.ones((2, 3)), [True, False])),
    case("CrossEntropyLoss", "integer-probabilities", [X, Ints(X, 5)]),
    case("CrossEntropyLoss", "integer-input", [Ints(X, 5), Y]),
    case("NLLLoss", "float-labels", [X, (4,)]),
    case("MSELoss", "integers", [Ints(X, 5), Ints(X, 5)]),
    case("KLDivLoss", "integer-target", [X, Ints(X, 5)]),
    case("BCELoss", "integer-target", given([0.5], [1])),
]
LABELS_REFUSED = [
    case(name, label, given(np.ones((3, 5)), labels))
    for name in ("CrossEntropyLoss", "NLLLoss")
    for label, labels in [("above", [0, 5, 1]), ("below", [0, -1, 1]), ("far", [0, 1, 99])]
]
NAMES = (
    "BCELoss BCEWithLogitsLoss CrossEntropyLoss HuberLoss KLDivLoss L1Loss MSELoss NLLLoss "
    "SmoothL1Loss"
).split()
GRADIENTS = ("shape_dtype", "forward", "input_grads")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case):
    finite = not case.id.split("-")[1].startswith(("kinks", "ends"))
    for check in ("shape_dtype", "whole") if finite else GRADIENTS:
        run(case, check)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", FIRST, ids=str)
def test_every_check(case, check):
    run(case, check)


@pytest.mark.parametrize("case", SHAPES_REFUSED, ids=str)
@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


@pytest.mark.parametrize("case", TYPES_REFUSED, ids=str)
def test_types_refused_as_in_torch(case):
    both_raise(case, (TypeError, ValueError))


@pytest.mark.parametrize("case", LABELS_REFUSED, ids=str)
def test_labels_out_of_range(case):
    both_raise(case, IndexError, torch_error=IndexError)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels_out_of_range_give_nan_in_compiled_code(name):
    labels = jnp.array([0, 5, -1, -100])
    none = jax.jit(lambda x: getattr(F, name)(x, labels, reduction="none"))
    traced = jax.jit(lambda x, y: getattr(F, name)(x, y, reduction="none"))
    with pytest.raises(IndexError, match="5, -1"):
        none(jnp.ones((4, 5)))  # the labels are constants: they can be checked
    out = traced(jnp.ones((4, 5)), labels)
    assert np.isnan(out).tolist() == [False, True, True, False]
    assert out[3] == 0


def test_probabilities_out_of_range_give_nan_in_compiled_code():
    out = jax.jit(lambda p: F.binary_cross_entropy(p, jnp.ones(2), reduction="none"))
    assert np.isnan(out(jnp.array([1.5, -0.5]))).all()


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"])
def test_broadcasting_is_torchs_with_its_warning(name):
    for x in ([X, (5,)], [X, (4, 1)], [(4, 1), (4,)]):
        for check in ("forward", "input_grads"):
            with pytest.warns(UserWarning, match="target size"):
                run(case(name, "broadcast", x), check)
        with pytest.warns(UserWarning, match=rf"^{name}|loss: .*broadcast"):
            getattr(nn, name)()(jnp.ones(x[0]), jnp.ones(x[1]))


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_maps_with_the_classes_last(name, reduction):
    kwargs = {"reduction": reduction, "weights": {"weight": (5,)}, "flax": {"channels_last": True}}
    for x in ([MAP, MAP_Y], [(2, 5, 3), Ints((2, 3), 5)], [X, Y]):
        for check in (*GRADIENTS, "float32", "jit"):
            run(case(name, "classes-last", x, **kwargs), check)


def test_probabilities_of_a_map_with_the_classes_last():
    for x in (probabilities(MAP, MAP), probabilities(X, X)):
        given = case("CrossEntropyLoss", "soft-last", x, flax={"channels_last": True})
        for check in GRADIENTS:
            run(given, check)


def test_a_map_with_the_classes_elsewhere_names_the_switch():
    with pytest.raises(ValueError, match="channels_last=True"):
        nn.CrossEntropyLoss()(jnp.ones((2, 3, 4, 5)), jnp.zeros((2, 3, 4), int))


LEGACY = [(None, False), (False, None), (False, True), (True, None), (True, False), (True, True)]


@pytest.mark.parametrize(("size_average", "reduce"), LEGACY)
def test_the_older_arguments_mean_what_they_mean_in_torch(size_average, reduce):
    older = {"size_average": size_average, "reduce": reduce}
    for name in ("MSELoss", "CrossEntropyLoss", "BCEWithLogitsLoss", "KLDivLoss"):
        with pytest.warns(UserWarning, match="size_average and reduce"):
            theirs = getattr(tnn, name)(**older)
        with pytest.warns(UserWarning, match="size_average and reduce"):
            ours = getattr(nn, name)(**older)
        assert ours.reduction == theirs.reduction
    with pytest.warns(UserWarning, match=f"reduction='{ours.reduction}'"):
        F.mse_loss(jnp.ones(3), jnp.zeros(3), size_average, reduce)


def positional(function):
    parameters = inspect.signature(function).parameters.values()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [(p.name, p.default) for p in parameters if p.kind is kind and p.name != "self"]


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_torchs(name):
    ours, theirs = getattr(nn, name).__init__, getattr(tnn, name).__init__
    assert positional(ours) == positional(theirs)


FUNCTIONS = ["cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"]
FUNCTIONS += ["binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_torchs_arguments_in_its_order(name):
    assert positional(getattr(F, name)) == positional(getattr(tnn.functional, name))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_elementwise_weights_of_the_functions(name, reduction, x64):
    x, y, w = np.random.default_rng(0).random((3, 4, 5))
    want = getattr(tnn.functional, name)(
        *map(torch.from_numpy, (x, y)), weight=torch.from_numpy(w), reduction=reduction
    )
    got = getattr(F, name)(*map(jnp.asarray, (x, y)), weight=jnp.asarray(w), reduction=reduction)
    same({"loss": got}, {"loss": want})
    with pytest.raises(ValueError, match="weight"):
        getattr(F, name)(jnp.asarray(x), jnp.asarray(y), weight=jnp.ones(5))


def test_weights_are_buffers_of_the_state_dict_and_none_is_not():
    weight = np.array([1.0, 2.0], np.float32)
    ours = nn.BCEWithLogitsLoss(weight, pos_weight=weight + 1)
    theirs = tnn.BCEWithLogitsLoss(torch.from_numpy(weight), pos_weight=torch.ones(2))
    assert list(convert.to_torch(ours)) == list(theirs.state_dict()) == ["weight", "pos_weight"]
    assert isinstance(ours.weight, nn.Buffer)
    convert.to_flax(theirs, ours)
    assert ours.pos_weight[...].tolist() == [1.0, 1.0]
    assert convert.to_torch(nn.BCEWithLogitsLoss()) == {}
    assert nn.NLLLoss(weight, param_dtype=jnp.bfloat16).weight.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_dtypes_are_promoted_or_refused_as_in_torch(name, x64):
    p = np.random.default_rng(0).random((3, 4))
    labels = name == "nll_loss"
    target = np.array([0, 3, 1]) if labels else p
    if name == "binary_cross_entropy":
        with pytest.raises(TypeError, match="float64"):
            F.binary_cross_entropy(jnp.asarray(p, jnp.float32), jnp.asarray(p))
        return
    x = torch.from_numpy(p).float()
    want = getattr(tnn.functional, name)(x, torch.from_numpy(target))
    got = getattr(F, name)(jnp.asarray(p, jnp.float32), jnp.asarray(target))
    assert str(got.dtype) == str(want.dtype).removeprefix("torch.")
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "MSELoss", "L1Loss", "BCEWithLogitsLoss"])
def test_half_precision_is_as_close_to_the_truth_as_torch(name, dtype):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((64, 50))).to(getattr(torch, dtype))
    label = name == "CrossEntropyLoss"
    y = torch.from_numpy(rng.integers(0, 50, 64) if label else rng.random((64, 50)))
    y = y if label else y.to(x.dtype)
    for reduction in REDUCTIONS:
        theirs, ours = (getattr(m, name)(reduction=reduction) for m in (tnn, nn))
        truth = theirs(x.double(), y if label else y.double()).numpy()
        of_torch = theirs(x, y).double().numpy()
        target = jnp.asarray(y.numpy()) if label else jnp.asarray(y.double().numpy(), dtype)
        out = ours(jnp.asarray(x.double().numpy(), dtype), target)
        assert out.dtype == jnp.dtype(dtype)
        error = np.linalg.norm(np.asarray(out, np.float64) - truth)
        eps = float(jnp.finfo(dtype).eps) * np.linalg.norm(truth)
        assert error <= 2 * np.linalg.norm(of_torch - truth) + 0.5 * eps
