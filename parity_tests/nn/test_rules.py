"""Weight rules: every row goes both ways bit for bit, and no layer with weights is without one."""

from __future__ import annotations

import inspect
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod.nn.rules import RULES, Leaf, _merge, leaves_of

ARGS = {
    "in_features": 3,
    "out_features": 5,
    "in1_features": 3,
    "in2_features": 4,
    "in_channels": 4,
    "out_channels": 6,
    "kernel_size": 3,
    "num_features": 4,
    "num_channels": 4,
    "num_groups": 2,
    "num_embeddings": 7,
    "embedding_dim": 4,
    "embed_dim": 4,
    "num_heads": 2,
    "d_model": 4,
    "nhead": 2,
    "dim_feedforward": 6,
    "normalized_shape": 4,
    "input_size": 3,
    "hidden_size": 4,
    "num_layers": 1,
    "output_size": 2,
    "threshold": 0.5,
    "value": 0.1,
    "dim": 1,
    "unflattened_size": (2, 3),
    "mode": "LSTM",
    "num_chunks": 4,
    "bias": True,
    "n_classes": 9,
    "num_classes": 5,
    "cutoffs": [3, 6],
    "padding": 1,
    "norm_type": 2.0,
    "upscale_factor": 2,
    "downscale_factor": 2,
    "groups": 2,
    "size": 2,
}
"""A value for every constructor argument that has no default, by name."""


CLASSES = {
    name: cls
    for name, cls in sorted(vars(nn).items())
    if isinstance(cls, type) and issubclass(cls, nn.Module) and cls is not nn.Module
}
CONTAINERS = {
    "Container",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "Sequential",
}
FROM_MODULES = {"TransformerDecoder", "TransformerEncoder"}
"""Built from modules: their own leaves are none, which the modules' rows cover."""


def arguments(cls):
    """Constructor arguments without defaults, or None where the list above has no value."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in kinds]
    names = [name for name in needed if name != "rngs"]
    if cls.__name__.startswith("FractionalMaxPool"):
        names.append("output_size")
    return {name: ARGS[name] for name in names} if set(names) <= set(ARGS) else None


def built(cls):
    takes_rngs = "rngs" in inspect.signature(cls.__init__).parameters
    return cls(**arguments(cls), **({"rngs": nnx.Rngs(0)} if takes_rngs else {}))


def leaves():
    """Every row of every rule, those of functions taken from an instance."""
    for cls, rule in RULES.items():
        instance = rule(built(cls)) if callable(rule) else rule
        for leaf in instance:
            yield pytest.param(leaf, id=f"{cls.__name__}.{leaf.torch}")


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "bool"])
@pytest.mark.parametrize("leaf", list(leaves()))
def test_a_row_goes_there_and_back_bit_for_bit(leaf, dtype):
    rank = len(leaf.perm or (0,))
    for shape in ((2, 3, 4, 5, 6)[:rank], (3,) * rank, (0, 2, 3, 4, 5)[:rank]):
        bits = np.random.default_rng(0).integers(0, 200, shape)
        array = bits.astype(jnp.dtype(dtype))
        there = leaf.to_flax(array)
        back = leaf.to_torch(there)
        assert (back.shape, back.dtype) == (array.shape, array.dtype)
        assert back.tobytes() == array.tobytes()
        assert leaf.shape_in_torch(there.shape) == array.shape


@pytest.mark.parametrize("perm", list(itertools.permutations(range(4))))
def test_the_inverse_is_the_inverse_for_every_permutation(perm):
    leaf = Leaf("weight", "kernel", perm)
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(leaf.to_torch(leaf.to_flax(array)), array)


# --- classes ------------------------------------------------------------------------------------

# lazy layers have no weights before their first call, and are another class after it
LAYERS = [
    name
    for name in CLASSES
    if name not in CONTAINERS | FROM_MODULES and not name.startswith("Lazy")
]


def without_a_rule(layer):
    """Paths of variables that no row of their layer's rule names."""
    return [
        f"{path}.{name}" if path else name
        for path, module in nn.named_modules(layer)
        for name, _ in nn.named_variables(module)
        if name not in {leaf.flax for leaf in leaves_of(module)}
    ]


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_with_weights_has_a_rule_for_each(name):
    assert without_a_rule(built(CLASSES[name])) == []


# torch's Transformer says by a warning that it will not take its fast path
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_torchs_keys_shapes_and_dtypes(name):
    theirs = getattr(tnn, name)(**arguments(CLASSES[name]))
    ours = convert.to_torch(built(CLASSES[name]))
    want = theirs.state_dict()
    assert list(ours) == list(want)
    for key, tensor in want.items():
        assert ours[key].shape == tuple(tensor.shape), key
        assert str(ours[key].dtype) == str(tensor.dtype).removeprefix("torch."), key


def test_a_layer_without_a_rule_would_be_found():
    class Own(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 2, rngs=nnx.Rngs(0))
            self.gain = nn.Parameter(jnp.ones(2))

    assert without_a_rule(Own()) == ["gain"]


def test_a_class_with_two_rules_is_an_error_that_names_both():
    class First:
        __name__ = "first"
        RULES = {nn.Linear: ()}

    class Second(First):
        __name__ = "second"

    with pytest.raises(RuntimeError, match="Linear has two weight rules: in first and second"):
        _merge(First(), Second())


def test_the_table_is_sealed():
    with pytest.raises(TypeError):
        RULES[nn.Module] = ()


def test_a_subclass_has_the_rule_of_its_base():
    class Mine(nn.Linear):
        pass

    assert list(convert.to_torch(Mine(2, 3, rngs=nnx.Rngs(0)))) == ["weight", "bias"]


# --- shapes that hide a wrong order of axes -----------------------------------------------------

SQUARE = {
    "linear": (tnn.Linear, nn.Linear, (4, 4)),
    "bilinear": (tnn.Bilinear, nn.Bilinear, (4, 4, 4)),
    "conv1d": (tnn.Conv1d, nn.Conv1d, (3, 3, 3)),
    "conv2d": (tnn.Conv2d, nn.Conv2d, (3, 3, 3)),
    "conv3d": (tnn.Conv3d, nn.Conv3d, (3, 3, 3)),
    "embedding": (tnn.Embedding, nn.Embedding, (4, 4)),
}


@pytest.mark.parametrize("name", SQUARE)
def test_square_weights_land_element_by_element(name):
    """Each element of torch's weight acts where torch's does: by the output, not by the shape."""
    theirs, ours, args = SQUARE[name]
    module, layer = theirs(*args), ours(*args, rngs=nnx.Rngs(0))
    with torch.no_grad():
        weight = module.weight
        weight.copy_(torch.arange(weight.numel()).reshape(weight.shape) % 97 / 97)
    convert.to_flax(module, layer)
    if name == "embedding":
        np.testing.assert_array_equal(layer(jnp.arange(4)), module(torch.arange(4)).detach())
        return
    inputs = [torch.rand(2, 4), torch.rand(2, 4)][: 2 if name == "bilinear" else 1]
    if name.startswith("conv"):
        inputs = [torch.rand(2, 3, *[5, 4, 6][: int(name[4])])]
    want = module(*inputs).detach().numpy()
    moved = [np.moveaxis(x.numpy(), 1, -1) for x in inputs]
    got = np.moveaxis(np.asarray(layer(*map(jnp.asarray, moved))), -1, 1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
