"""Both packages hold the same files, names, constructors, attributes and printed structure."""

import inspect
from pathlib import Path

import pytest
from flax import nnx
from torch.nn import Module as TorchModule

import fluxmod.models.flax as flax_models
import fluxmod.models.torch as torch_models
from fluxmod import nn
from fluxmod.models import CATALOG

MODELS = [row for row in CATALOG if not row.is_layer]
CLASSES = [n for n in torch_models.__all__ if inspect.isclass(getattr(torch_models, n))]


def test_same_files_and_names():
    files = [
        sorted(p.name for p in Path(package.__file__).parent.glob("*.py"))
        for package in (torch_models, flax_models)
    ]
    assert files[0] == files[1]
    assert torch_models.__all__ == flax_models.__all__


@pytest.mark.parametrize("name", torch_models.__all__)
def test_same_arguments(name):
    theirs, ours = (arguments(getattr(m, name)) for m in (torch_models, flax_models))
    rngs = ours.pop("rngs", None)
    assert rngs is None or rngs.kind is inspect.Parameter.KEYWORD_ONLY
    assert [(p.name, p.default, p.kind) for p in theirs.values()] == [
        (p.name, p.default, p.kind) for p in ours.values()
    ]


def arguments(build):
    if inspect.isclass(build):
        parameters = dict(inspect.signature(build.__init__).parameters)
        del parameters["self"]
        return parameters
    return dict(inspect.signature(build).parameters)


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)
def test_same_attributes_and_structure(row):
    theirs, ours = row.torch(), row.flax(nnx.Rngs(0))
    assert str(ours) == str(theirs)
    for (path, a), (_, b) in zip(theirs.named_modules(), nn.named_modules(ours), strict=True):
        if type(a).__module__.startswith("fluxmod"):
            assert public_attributes(a) <= public_attributes(b), path


def public_attributes(module):
    names = {n for n in vars(module) if not n.startswith("_")}
    if isinstance(module, TorchModule):
        names |= {*module._parameters, *module._modules, *module._buffers}
        names -= {"training"}
    return names


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_documented_alike(name):
    theirs, ours = (inspect.getdoc(getattr(m, name)) for m in (torch_models, flax_models))
    assert theirs.splitlines()[0] == ours.splitlines()[0]


def test_every_note_has_rows():
    notes = {note.strip() for row in CATALOG for note in row.note.split(",")}
    assert notes == {"000", "001", "002", "003", "004"}
    assert len({row.name for row in CATALOG}) == len(CATALOG)
