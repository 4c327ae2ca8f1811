"""The Flax side: run a module on torch's arguments and masks, and report in torch's layouts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fluxmod.convert import Slot, slots
from fluxmod.nn import Axes, named_modules
from fluxmod.nn._check import x64_enabled
from fluxmod.nn._random import replay
from fluxmod.nn._stack import places

from ._run import Run
from ._trees import is_array, is_mask, leaves

__all__ = ["FAST_COMPILE", "cast_model", "outputs_in_place", "run_flax"]


class _Static:
    """Marks the places of arrays among a call's flattened arguments."""


_ARRAY = _Static()


def cast_model(model: nnx.Module, dtype: Any) -> tuple[nnx.Module, list[str]]:
    """Return a copy whose float leaves and declared compute dtypes are ``dtype``, with notes."""
    graphdef, state = nnx.split(model)
    state = jax.tree.map(lambda x: _cast(x, dtype), state)
    twin = nnx.merge(graphdef, state)
    lifted = []
    for path, module in named_modules(twin):
        declared = getattr(module, "dtype", None)
        if declared is not None and jnp.issubdtype(declared, jnp.floating):
            module.dtype = dtype  # type: ignore[attr-defined]
            lifted.append(path or "the model")
    notes = [f"declared compute dtype replaced by {np.dtype(dtype)} in: {', '.join(lifted)}"]
    return twin, notes if lifted else []


def _cast(x: Any, dtype: Any) -> Any:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    if is_key or not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return jnp.asarray(np.asarray(x).astype(dtype))


def run_flax(
    model: nnx.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    dtype: Any,
    training: bool,
    axes: Axes,
    masks: Sequence[np.ndarray] = (),
    cotangent: dict[str, np.ndarray] | None = None,
    device: jax.Device | None = None,
) -> Run:
    """Run a copy of ``model`` once, forward and backward, in ``dtype``, on torch-layout arguments.

    Outputs, gradients and buffers come back in torch's names and layouts. The model is left as it
    is. Matrix products use full precision on every device.
    """
    wide = jax.enable_x64(True) if np.dtype(dtype) == np.float64 else nullcontext()
    place = jax.default_device(device) if device is not None else nullcontext()
    with wide, place, jax.default_matmul_precision("highest"):
        twin, notes = cast_model(model, dtype)
        twin.train() if training else twin.eval()
        run = _run(twin, args, _taken(twin, kwargs), dtype, axes, masks, cotangent or {})
    run.notes += notes
    return run


def _taken(model: nnx.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for Flax: settings of torch's, ``use_cache=False``, may be unknown there."""
    parameters = inspect.signature(type(model).__call__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(kwargs)
    return {k: v for k, v in kwargs.items() if k in parameters or any(True for _ in leaves(v))}


def outputs_in_place(
    model: nnx.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    training: bool,
    axes: Axes,
    masks: Sequence[np.ndarray],
) -> dict[str, tuple[Any, dict[str, np.ndarray]]]:
    """Run a float64 copy once; return what every submodule got, and gave in torch's layouts.

    A stack is run layer by layer, as JAX does without compilation.
    """
    seen: dict[str, tuple[Any, dict[str, np.ndarray]]] = {}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        twin, _ = cast_model(model, np.float64)
        twin.train() if training else twin.eval()
        found: dict[int, tuple[nnx.Module, list[str]]] = {}
        for place in places(twin):
            _, keys = found.setdefault(id(place.module), (place.module, []))
            if not keys or place.index:
                keys.append(place.key)
        for module, keys in found.values():
            if keys != [""]:
                _watch(module, keys, seen)
        names, flat, treedef = _flatten_call(args, _taken(twin, kwargs))
        moved = [
            _to_flax(n, a, axes, np.float64) if is_array(a) else a
            for n, a in zip(names, flat, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(treedef, moved)
        stacks = any(len(keys) > 1 for _, keys in found.values())
        with replay(masks), jax.disable_jit() if stacks else nullcontext():
            twin(*args, **kwargs)
    return seen


def _watch(module: nnx.Module, keys: list[str], seen: dict[str, Any]) -> None:
    """Keep the first arguments and result of one instance, by a subclass of its own.

    Args:
        keys: its torch path; of a part of a stack one for each layer, in the order of the calls.
    """
    cls = type(module)
    rest = list(keys)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = cls.__call__(self, *args, **kwargs)
        if rest and not any(
            isinstance(a, jax.core.Tracer) for a in jax.tree.leaves((args, result))
        ):
            declared = getattr(self, "axes", Axes())
            outputs = {
                name: _to_torch(value, _output_entry(declared, i))
                for i, (name, value) in enumerate(leaves(result))
            }
            seen[rest.pop(0)] = ([*args, kwargs], outputs)
        return result

    object.__setattr__(module, "__class__", type(cls.__name__, (cls,), {"__call__": call}))


def _run(
    twin: nnx.Module,
    args: Any,
    kwargs: Any,
    dtype: Any,
    axes: Axes,
    masks: Sequence[np.ndarray],
    cotangent: dict[str, np.ndarray],
) -> Run:
    names, flat, treedef = _flatten_call(args, kwargs)
    arrays = [
        (n, _to_flax(n, a, axes, dtype)) for n, a in zip(names, flat, strict=True) if is_array(a)
    ]
    floats = {
        n: a for n, a in arrays
        if jnp.issubdtype(a.dtype, jnp.floating) and not is_mask(np.asarray(a))
    }  # fmt: skip
    others = {n: a for n, a in arrays if n not in floats}
    static = tuple((n, _ARRAY if is_array(a) else a) for n, a in zip(names, flat, strict=True))
    moved = tuple(
        (name, (_output_entry(axes, i).to_flax(ct) if _output_entry(axes, i) else ct).astype(dtype))
        for i, (name, ct) in enumerate(cotangent.items())
    )
    places = list(slots(twin))
    parts: Any = nnx.split(twin, FLOAT_PARAMS, ...)
    graphdef, params, rest = parts
    outputs, (param_grads, input_grads), new_rest = _execute(
        graphdef, treedef, static, params, floats, rest, others, tuple(masks), dict(moved)
    )
    after = nnx.merge(graphdef, params, new_rest)
    ordered = {key.partition(":")[2]: outputs[key] for key in _in_order(outputs)}
    return Run(
        outputs={
            name: _to_torch(value, _output_entry(axes, i))
            for i, (name, value) in enumerate(ordered.items())
        },
        input_grads={n: _to_torch(g, _input_entry(axes, n)) for n, g in input_grads.items()},
        parameter_grads=_by_key(places, nnx.merge(graphdef, param_grads, rest)),
        buffers={s.key: s.to_numpy() for s in slots(after) if not s.is_parameter},
    )


def _flatten_call(args: Any, kwargs: Any) -> tuple[list[str], list[Any], Any]:
    """Flatten arguments with the names that the torch side uses."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(
        (list(args), dict(kwargs)), is_leaf=lambda x: x is None
    )
    names = []
    for path, _ in paths:
        _, first, *deeper = [getattr(p, "idx", getattr(p, "key", None)) for p in path]
        names.append(f"input[{first!r}]" + "".join(f"[{p!r}]" for p in deeper))
    return names, [leaf for _, leaf in paths], treedef


def _execute(graphdef: Any, treedef: Any, static: Any, *operands: Any) -> Any:
    """Run compiled; a module whose static attributes cannot be hashed runs uncompiled."""
    try:
        hash((graphdef, treedef, static))
    except TypeError:
        return _forward_backward(graphdef, treedef, static, *operands)
    run = _compiled_fast if x64_enabled() else _compiled
    return run(graphdef, treedef, static, *operands)


def _forward_backward(
    graphdef: Any,
    treedef: Any,
    static: Any,
    params: Any,
    floats: dict[str, jax.Array],
    rest: Any,
    others: dict[str, jax.Array],
    masks: tuple[Any, ...],
    cotangent: dict[str, Any],
) -> Any:
    def total(params: Any, floats: dict[str, jax.Array]) -> Any:
        arrays = {**floats, **others}
        flat = [arrays[name] if value is _ARRAY else value for name, value in static]
        args, kwargs = jax.tree.unflatten(treedef, flat)
        model = nnx.merge(graphdef, params, rest, copy=True)
        with replay(masks):
            outputs = dict(leaves(model(*args, **kwargs)))
        parts: Any = nnx.split(model, FLOAT_PARAMS, ...)
        new_rest = parts[2]
        value = sum(
            (jnp.vdot(ct, outputs[n]) for n, ct in cotangent.items() if _fits(outputs, n, ct)),
            start=jnp.zeros(()),
        )
        order = tuple(outputs)
        return value, ({f"{i}:{n}": outputs[n] for i, n in enumerate(order)}, new_rest)

    grads, (outputs, new_rest) = jax.grad(total, argnums=(0, 1), has_aux=True)(params, floats)
    return outputs, grads, new_rest


FAST_COMPILE = {"xla_backend_optimization_level": 0}
"""For float64, which proves semantics: compiling takes most of the time, running almost none."""

_compiled = jax.jit(_forward_backward, static_argnums=(0, 1, 2))
_compiled_fast = jax.jit(_forward_backward, static_argnums=(0, 1, 2), compiler_options=FAST_COMPILE)


def _fits(outputs: dict[str, jax.Array], name: str, ct: Any) -> bool:
    """A wrongly shaped output still gets compared; it only takes no part in the functional."""
    return name in outputs and outputs[name].shape == ct.shape


def _in_order(outputs: dict[str, Any]) -> list[str]:
    return sorted(outputs, key=lambda key: int(key.partition(":")[0]))


def _is_float(path: Any, value: Any) -> bool:
    del path
    return jnp.issubdtype(value.get_value().dtype, jnp.floating)


FLOAT_PARAMS = nnx.All(nnx.Param, _is_float)
"""What gradients are taken of: a parameter may hold integers."""


def _by_key(places: list[Slot], grads: nnx.Module) -> dict[str, np.ndarray]:
    """Parameter gradients under torch's keys, each tied parameter once."""
    result: dict[str, np.ndarray] = {}
    seen: set[Any] = set()
    for slot in slots(grads):
        if slot.is_parameter and slot.place not in seen:
            seen.add(slot.place)
            result[slot.key] = slot.to_numpy()
    known = {slot.key for slot in places}
    return {key: value for key, value in result.items() if key in known}


def _to_flax(name: str, array: Any, axes: Axes, dtype: Any) -> jax.Array:
    value = np.asarray(array)
    if np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16":
        value = value.astype(dtype)
    entry = _input_entry(axes, name)
    return jnp.asarray(value if entry is None else entry.to_flax(value))


def _to_torch(value: Any, entry: Any) -> np.ndarray:
    array = np.asarray(value)
    return array if entry is None else entry.to_torch(array)


def _input_entry(axes: Axes, name: str) -> Any:
    key = name[len("input[") :].partition("]")[0]
    return axes.of_input(int(key) if key.isdigit() else key.strip("'"))


def _output_entry(axes: Axes, index: int) -> Any:
    return axes.of_output(index)
