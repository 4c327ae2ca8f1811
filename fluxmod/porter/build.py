"""From text to a model: the source is executed, and the weights are put in.

First values are not drawn: they would be replaced.
"""

from __future__ import annotations

import inspect
import itertools
import linecache
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import torch
from flax import nnx
from jax.extend import core

from fluxmod import convert, nn
from fluxmod._errors import PortError
from fluxmod._paths import join
from fluxmod.convert._source import as_numpy
from fluxmod.nn._stack import places

from .specs import plain_tensors

__all__ = ["build", "on_meta"]


def build(text: str, name: str, torch_module: torch.nn.Module) -> nnx.Module:
    """Run the source of a port and give the model its weights.

    A module on the meta device has none: then the model's are shapes without values, which
    ``convert.to_flax`` fills from a file.

    Raises:
        PortError: the source does not run.
    """
    make = _maker(text, name)
    model = _abstract(make, text, name)
    if on_meta(torch_module):
        _same_dtypes(torch_module, model)
    else:
        convert.to_flax(torch_module, model, assign=True)
    _fill_rest(make, model)
    _same_tables(torch_module, model)
    model.train() if torch_module.training else model.eval()
    return model


def on_meta(module: torch.nn.Module) -> bool:
    """Whether a module's weights, or some of them, are shapes without values."""
    return any(tensor.is_meta for tensor in itertools.chain(module.parameters(), module.buffers()))


def _maker(text: str, name: str) -> Callable[[], nnx.Module]:
    """Run the text; tracebacks show it. Returns what constructs the model."""
    filename = f"<fluxmod.port {name}>"
    module = types.ModuleType(f"fluxmod_port_{name}")
    lines = text.splitlines(keepends=True)
    linecache.cache[filename] = (len(text), None, lines, filename)
    try:
        exec(compile(text, filename, "exec"), module.__dict__)
    except Exception as error:
        raise _our_fault(text, name, error) from error
    sys.modules[module.__name__] = module
    found = getattr(module, name)
    build = found.__init__ if inspect.isclass(found) else found
    takes = "rngs" in inspect.signature(build).parameters

    def make() -> nnx.Module:
        with mock.patch.object(nnx.RngStream, "__call__", _draw):
            return found(rngs=nnx.Rngs(0)) if takes else found()

    return make


def _draw(stream: nnx.RngStream) -> jax.Array:
    """What a stream does when called, in time that does not grow with what was traced before.

    ``count[...] += 1`` asks a tracer for its sharding, and JAX words the refusal by searching all
    equations so far: a model of 48 blocks took ten seconds to build, and takes one.
    """
    key = jax.random.fold_in(stream.key[...], stream.count[...])
    stream.count.set_value(stream.count[...] + 1)
    return key


def _abstract(make: Callable[[], nnx.Module], text: str, name: str) -> nnx.Module:
    """The model without values: weights that will be replaced are not drawn first."""
    try:
        return nnx.eval_shape(make)
    except Exception as error:
        raise _our_fault(text, name, error) from error


def _same_dtypes(module: torch.nn.Module, model: nnx.Module) -> None:
    """Give the shapes of a model on the meta device torch's floating dtypes."""
    tensors = module.state_dict()
    for slot in convert.slots(model):
        tensor = tensors.get(slot.key)
        if tensor is not None and tensor.is_floating_point():
            dtype = str(tensor.dtype).removeprefix("torch.")
            shape = slot.variable.get_value().shape
            slot.variable.set_value(jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)))


def _fill_rest(make: Callable[[], nnx.Module], model: nnx.Module) -> None:
    """Compute what no checkpoint has: random streams and constants."""
    weights = {id(slot.variable) for slot in convert.slots(model)}
    variables = _variables(model)
    missing = [
        index
        for index, variable in enumerate(variables)
        if id(variable) not in weights and isinstance(variable.get_value(), jax.ShapeDtypeStruct)
    ]
    if not missing:
        return

    def rest() -> list[Any]:
        made = _variables(make())
        return [made[index].get_value() for index in missing]

    closed = jax.make_jaxpr(rest)()
    for index, value in zip(missing, core.jaxpr_as_fun(_without_unused(closed))(), strict=True):
        variables[index].set_value(value)


def _without_unused(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A program without what its results do not need.

    It runs step by step: hundreds of random streams are few kinds of small steps, each compiled
    once, and as one program took longer to compile than all else of a port of 48 blocks.
    """
    needed = {v for v in closed.jaxpr.outvars if isinstance(v, core.Var)}
    steps = []
    for step in reversed(closed.jaxpr.eqns):
        if needed & set(step.outvars):
            steps.append(step)
            needed |= {v for v in step.invars if isinstance(v, core.Var)}
    return core.ClosedJaxpr(closed.jaxpr.replace(eqns=steps[::-1]), closed.consts)


def _variables(model: nnx.Module) -> list[nnx.Variable[Any]]:
    return [part for _, part in nnx.iter_graph(model) if isinstance(part, nnx.Variable)]


def _same_tables(module: torch.nn.Module, model: nnx.Module) -> None:
    """Give what no checkpoint has torch's own values: the last place of a sine may differ."""
    found = dict(module.named_buffers())
    for owner, each in module.named_modules():
        found |= {join(owner, name): tensor for name, tensor in plain_tensors(each)}
    for place in places(model):
        for name, variable in nn.named_variables(place.module):
            tensor = found.get(join(place.key, name))
            if tensor is None or tensor.is_meta or variable.get_metadata("persistent", True):
                continue
            value = variable.get_value()
            if tuple(tensor.shape) == value.shape[len(place.index) :]:
                floats = jnp.issubdtype(value.dtype, jnp.floating)
                new = jnp.asarray(as_numpy(tensor), None if floats else value.dtype)
                whole = value.astype(new.dtype).at[place.index].set(new) if place.index else new
                variable.set_value(whole)


def _our_fault(text: str, name: str, error: Exception) -> PortError:
    return PortError(
        f"port: the source of {name} cannot be built: {type(error).__name__}: {error}. "
        "This is a fault of the porter; please report it with the model.\n" + text
    )
