"""Bugs are planted mechanically; the certificate must catch and locate each."""

import ast
import inspect
from dataclasses import replace

import pytest
import torch
from flax import nnx

from fluxmod import convert, nn, optim, parity
from fluxmod.models import entry
from fluxmod.optim import FAMILIES
from fluxmod.optim import _adam as adam_module
from fluxmod.optim import _sgd as sgd_module
from fluxmod.optim._family import make
from fluxmod.parity._edits import edits
from fluxmod.parity.mutate import mutations
from parity_tests.parity.planted import NETS, build, planted, survey

LAYERS_WITHOUT_BUGS = {"Sequential", "FlaxPair", "FlaxLosses"}
"""Containers: nothing of their own to change."""


def chosen(net: str, samples: str):
    """One bug of each kind per layer type, or all."""
    bugs = planted(net)
    if samples == "all":
        return bugs
    first = {(bug.layer, bug.kind): bug for bug in reversed(bugs)}
    by_layer = {layer: bug for (layer, _), bug in reversed(first.items())}
    return list(by_layer.values())


@pytest.mark.parametrize("net", NETS)
def test_planted_bugs_are_caught_and_located(net, pytestconfig):
    bugs = chosen(net, pytestconfig.getoption("--samples"))
    findings = [f for f in survey(net, bugs) if f.equivalent is None]
    missed = [f"{f.mutation} (located {f.located!r})" for f in findings if not f.found]
    assert findings
    assert not missed, "\n".join(missed)


def test_every_layer_type_has_bugs():
    kinds: dict[str, int] = {}
    layers = set()
    for net in NETS:
        _, ours = build(net)
        layers |= {type(m).__name__ for _, m in nn.named_modules(ours)}
        for bug in planted(net):
            kinds[bug.layer] = kinds.get(bug.layer, 0) + 1
    assert layers - set(kinds) <= LAYERS_WITHOUT_BUGS
    assert sum(kinds.values()) >= 40


def test_a_planted_bug_leaves_the_model_alone():
    layer = nn.Linear(3, 3, rngs=nnx.Rngs(0))
    before = convert.to_torch(layer)
    for bug in mutations(layer):
        twin = bug.apply(layer)
        assert type(layer) is nn.Linear
        assert twin is not layer
    after = convert.to_torch(layer)
    assert all((before[k] == after[k]).all() for k in before)


SETTINGS = {
    "SGD": (
        sgd_module,
        [
            ("SGD", {"lr": 1e-3, "momentum": 0.9, "dampening": 0.1, "weight_decay": 1e-2}),
            ("SGD", {"lr": 1e-3, "momentum": 0.9, "nesterov": True}),
        ],
    ),
    "Adam": (
        adam_module,
        [("AdamW", {"lr": 1e-3}), ("Adam", {"lr": 1e-3, "weight_decay": 1e-2, "amsgrad": True})],
    ),
}
"""Settings that together take every branch of an update rule."""


def broken_rules(module):
    """The update rule of an optimizer with one edit each."""
    tree = ast.parse(inspect.getsource(module._rule))
    for edited, what, _ in edits(tree):
        scope = dict(vars(module))
        exec(compile(ast.fix_missing_locations(edited), module.__file__, "exec"), scope)
        yield what, scope["_rule"]


def equal_with(name, settings, rule, pair, args):
    """Whether the training level takes a rule for torch's own optimizer."""
    right = getattr(optim, name)(**settings).init({}).settings
    family = replace(FAMILIES[name], rule=rule)
    optimizer = parity.OptimizerPair(
        name,
        lambda params: getattr(torch.optim, name)(params, **settings),
        lambda: make(family, **dict(right.items)),
    )
    options = parity.Options(levels=("L0", "L4"), optimizers=(optimizer,), batches=(4,))
    return parity.check(*pair, *args, options=options).passed


@pytest.mark.parametrize("group", SETTINGS)
def test_bugs_in_an_optimizer_are_caught_by_the_training_level(group):
    module, settings = SETTINGS[group]
    row = entry("SimpleModel")
    theirs, ours = row.torch(), row.flax(nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    args, _ = row.make(4)
    bugs = list(broken_rules(module))
    assert all(equal_with(n, kw, module._rule, (theirs, ours), args) for n, kw in settings)
    survivors = [
        what
        for what, rule in bugs
        if all(equal_with(n, kw, rule, (theirs, ours), args) for n, kw in settings)
    ]
    assert len(bugs) >= 5
    assert survivors == []
