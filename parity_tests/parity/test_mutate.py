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
from parity_tests.parity.planted import NETS, planted, survey

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
        _, ours = NETS[net][0]()
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
        lambda params, **kw: torch.optim.SGD(params, **kw),
        {"lr": 1e-3, "momentum": 0.9, "dampening": 0.1, "weight_decay": 1e-2},
    ),
    "AdamW": (adam_module, lambda params, **kw: torch.optim.AdamW(params, **kw), {"lr": 1e-3}),
}


def broken_rules(name: str):
    """The update rule of an optimizer with one edit each."""
    module = SETTINGS[name][0]
    tree = ast.parse(inspect.getsource(module._rule))
    for edited, what, _ in edits(tree):
        scope = dict(vars(module))
        exec(compile(ast.fix_missing_locations(edited), module.__file__, "exec"), scope)
        yield what, scope["_rule"]


@pytest.mark.parametrize("name", SETTINGS)
def test_bugs_in_an_optimizer_are_caught_by_the_training_level(name):
    _, build, settings = SETTINGS[name]
    row = entry("SimpleModel")
    theirs, ours = row.torch(), row.flax(nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    right = getattr(optim, name)(**settings).init({}).settings
    args, _ = row.make(4)
    bugs = list(broken_rules(name))
    survivors = []
    for what, rule in bugs:
        family = replace(FAMILIES[name], rule=rule)
        pair = parity.OptimizerPair(
            name, lambda p: build(p, **settings), lambda f=family: make(f, **dict(right.items))
        )
        options = parity.Options(levels=("L0", "L4"), optimizers=(pair,), batches=(4,))
        if parity.check(theirs, ours, *args, options=options).passed:
            survivors.append(what)
    assert len(bugs) >= 5
    assert survivors == EQUIVALENT_IN_OPTIMIZERS[name]


EQUIVALENT_IN_OPTIMIZERS: dict[str, list[str]] = {"SGD": [], "AdamW": []}
"""Edits on branches that these settings do not take."""
