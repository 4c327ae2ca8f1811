"""torch's own samples for its functions, run through both frameworks in float64.

``torch.testing._internal`` is private and may change with any release: tests use it, nothing else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_unflatten

from fluxmod.nn import Channel, PairwiseDistance
from fluxmod.nn import functional as F
from fluxmod.nn._random import replay
from fluxmod.parity._torch import record_masks
from parity_tests.compare import same

PREFIX = "nn.functional."


@dataclass(frozen=True)
class Perm:
    """A fixed reordering of axes, for kernels: ``axes[i]`` of torch's array is axis ``i`` here."""

    axes: tuple[int, ...]

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """torch's order to ours."""
        return np.transpose(array, self.axes)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Our order to torch's."""
        return np.transpose(array, np.argsort(self.axes))


Move = Channel | Perm | None


@dataclass(frozen=True)
class Twin:
    """How one of torch's functions is called here.

    Args:
        inputs: where the channel axis of each array argument is, by torch's argument name.
        output: the same of the outputs: one for all, or one each.
        extra: keywords of our function that torch has not.
        rename: torch's argument names that are different here.
        drop: arguments of torch's that have no meaning here.
        outputs: how many of our outputs torch has; the rest is more than torch returns.
        absent: why there is no twin; then nothing is run.
        leave: a sample that is left out, with the reason: ``leave(args) -> str | None``.
    """

    inputs: Mapping[str, Move] = field(default_factory=dict)
    output: Move | tuple[Move, ...] = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    outputs: int | None = None
    absent: str = ""
    leave: Callable[[Mapping[str, Any]], str | None] = lambda given: None

    def of_output(self, index: int) -> Move:
        """The declaration of one output."""
        if isinstance(self.output, tuple):
            return self.output[index] if index < len(self.output) else None
        return self.output


@dataclass
class Result:
    """What became of the samples of one entry."""

    available: int = 0
    run: int = 0
    left: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    worst: float = 0.0


def entries() -> dict[str, Any]:
    """Every ``nn.functional`` entry of ``op_db`` by name and variant."""
    return {_label(op): op for op in op_db if op.name.startswith(PREFIX)}


def _label(op: Any) -> str:
    name = op.name.removeprefix(PREFIX)
    return f"{name}[{op.variant_test_name}]" if op.variant_test_name else name


def samples_of(op: Any, dtype: torch.dtype = torch.float64) -> Iterator[Any]:
    """Yield torch's samples, from one seed."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield from op.sample_inputs("cpu", dtype, requires_grad=dtype.is_floating_point)


def run(
    op: Any, twin: Twin, *, most: int | None = None, dtype: torch.dtype = torch.float64
) -> Result:
    """Run the samples of an entry, spread evenly if there are more than ``most``."""
    result = Result()
    samples = list(samples_of(op, dtype))
    result.available = len(samples)
    chosen = range(len(samples))
    if most is not None and len(samples) > most:
        chosen = sorted({round(i * (len(samples) - 1) / (most - 1)) for i in range(most)})
    for index in chosen:
        given = bound(op, samples[index])
        if reason := twin.leave(given):
            result.left[reason] = result.left.get(reason, 0) + 1
            continue
        result.run += 1
        try:
            result.worst = max(result.worst, one(op, twin, given))
        except Exception as error:  # every sample is reported, whatever it failed with
            text = " ".join(str(error).split())[:300]
            result.problems.append(f"sample {index} {shown(given)}: {type(error).__name__}: {text}")
    return result


def bound(op: Any, sample: Any) -> dict[str, Any]:
    """The sample's arguments by torch's names."""
    function = getattr(torch.nn.functional, op.name.removeprefix(PREFIX))
    values = (sample.input, *sample.args)
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:
        names = list(SIGNATURES[op.name.removeprefix(PREFIX)])
    if names and names[0] in ("args", "kwargs"):
        names = list(SIGNATURES[op.name.removeprefix(PREFIX)])
    if op.name in ("nn.functional.embedding", "nn.functional.embedding_bag"):
        names[:2] = names[1::-1]  # its samples start with the table
    given = dict(zip(names, values, strict=False))
    if len(values) > len(names):
        raise ValueError(f"{op.name}: {len(values)} arguments, names {names}")
    return {**given, **sample.kwargs}


def one(op: Any, twin: Twin, given: Mapping[str, Any]) -> float:
    """Compare outputs and gradients of one sample; return the worst relative error."""
    leaves, structure = tree_flatten(dict(given))
    floats = [
        i
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, torch.Tensor)
        and leaf.requires_grad
        and (leaf.is_floating_point() or leaf.is_complex())
    ]
    tensors = [
        leaf.detach().clone().requires_grad_(i in floats)
        if isinstance(leaf, torch.Tensor)
        else leaf
        for i, leaf in enumerate(leaves)
    ]
    name = op.name.removeprefix(PREFIX)
    with warnings.catch_warnings(), record_masks() as masks, torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        theirs = getattr(torch.nn.functional, name)(**tree_unflatten(tensors, structure))
    want = [out for out in tree_flatten(theirs)[0] if isinstance(out, torch.Tensor)]
    rng = np.random.default_rng(7)
    weights = {
        i: rng.standard_normal(tuple(out.shape))
        for i, out in enumerate(want)
        if out.requires_grad and not out.is_complex()
    }
    gradients: dict[int, torch.Tensor] = {}
    if weights and floats:
        total = sum((want[i] * torch.from_numpy(w)).sum() for i, w in weights.items())
        grads = torch.autograd.grad(total, [tensors[i] for i in floats], allow_unused=True)
        gradients = {
            i: torch.zeros_like(tensors[i]) if g is None else g
            for i, g in zip(floats, grads, strict=True)
        }
    got, ours = _in_flax(name, twin, leaves, structure, list(gradients), weights, masks)
    # outputs and gradients are one group: a gradient far below them may be cancellation alone
    return same(
        {
            **{f"output {i}": out for i, out in enumerate(got)},
            **{f"gradient {i}": ours[i] for i in gradients},
        },
        {
            **{f"output {i}": array_of(out) for i, out in enumerate(want)},
            **{f"gradient {i}": array_of(g) for i, g in gradients.items()},
        },
    )


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values in a fresh contiguous array of the same shape."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return np.array((tensor.to_dense() if tensor.is_sparse else tensor).numpy(), order="C")


def _in_flax(
    name: str,
    twin: Twin,
    leaves: list[Any],
    structure: Any,
    floats: list[int],
    weights: Mapping[int, np.ndarray],
    masks: list[np.ndarray],
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """Our outputs and gradients in torch's order of axes."""
    places = [
        path
        for path, _ in torch.utils._pytree.tree_flatten_with_path(
            tree_unflatten(leaves, structure)
        )[0]
    ]
    moves = [twin.inputs.get(path[0].key) for path in places]
    arrays = {
        i: to_flax(moves[i], array_of(leaf))
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, torch.Tensor)
    }
    function = getattr(F, name)

    def call(values: Mapping[int, Any]) -> list[Any]:
        filled = [values.get(i, leaf) for i, leaf in enumerate(leaves)]
        keywords = tree_unflatten([_value(v) for v in filled], structure)
        keywords = {twin.rename.get(k, k): v for k, v in keywords.items() if k not in twin.drop}
        with replay(masks):
            out = function(**keywords, **twin.extra)
        return jax.tree.leaves(out)[: twin.outputs]

    def functional(chosen: dict[int, Any], rest: dict[int, Any]) -> tuple[Any, list[Any]]:
        outputs = call({**rest, **chosen})
        total = jnp.zeros((), jnp.float64)
        for i, w in weights.items():
            total = total + jnp.vdot(outputs[i], to_flax(twin.of_output(i), w))
        return total, outputs

    with jax.enable_x64(True):
        chosen = {i: jnp.asarray(arrays[i]) for i in floats}
        # integers stay concrete: bounds of offsets and lengths are static facts of a sample
        rest = {i: jnp.asarray(a) for i, a in arrays.items() if i not in chosen}
        traced = {i: a for i, a in rest.items() if jnp.issubdtype(a.dtype, jnp.inexact)}
        fixed = {i: a for i, a in rest.items() if i not in traced}
        work = jax.jit(
            jax.grad(lambda c, r: functional(c, {**r, **fixed}), has_aux=True)
            if floats
            else lambda c, r: ({}, functional(c, {**r, **fixed})[1]),
            compiler_options={"xla_backend_optimization_level": 0},
        )
        grads, outputs = work(chosen, traced)
    moved = [to_torch(twin.of_output(i), np.asarray(o)) for i, o in enumerate(outputs)]
    return moved, {i: to_torch(moves[i], np.asarray(g)) for i, g in grads.items()}


def to_flax(move: Move, array: np.ndarray) -> np.ndarray:
    """Move axes, if there is anything to move."""
    return array if move is None else move.to_flax(array)


def to_torch(move: Move, array: np.ndarray) -> np.ndarray:
    """Move axes back."""
    return array if move is None else move.to_torch(array)


def _value(value: Any) -> Any:
    """An argument that is not an array, as JAX has it."""
    if isinstance(value, torch.dtype):
        return jnp.dtype(str(value).removeprefix("torch."))
    if isinstance(value, torch.nn.PairwiseDistance):
        return PairwiseDistance(value.norm, value.eps, value.keepdim)
    return value


def shown(given: Mapping[str, Any]) -> str:
    """The arguments, tensors by dtype and shape."""

    def text(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        return repr(value)

    return "(" + ", ".join(f"{k}={text(v)}" for k, v in given.items()) + ")"


SIGNATURES = {
    name: tuple(names.split())
    for name, names in {
        "conv1d": "input weight bias stride padding dilation groups",
        "conv2d": "input weight bias stride padding dilation groups",
        "conv3d": "input weight bias stride padding dilation groups",
        "conv_transpose1d": "input weight bias stride padding output_padding groups dilation",
        "conv_transpose2d": "input weight bias stride padding output_padding groups dilation",
        "conv_transpose3d": "input weight bias stride padding output_padding groups dilation",
        "avg_pool1d": "input kernel_size stride padding ceil_mode count_include_pad",
        "avg_pool2d": (
            "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
        ),
        "avg_pool3d": (
            "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
        ),
        "max_pool1d": "input kernel_size stride padding dilation ceil_mode return_indices",
        "max_pool2d": "input kernel_size stride padding dilation ceil_mode return_indices",
        "max_pool3d": "input kernel_size stride padding dilation ceil_mode return_indices",
        "adaptive_max_pool1d": "input output_size return_indices",
        "adaptive_max_pool2d": "input output_size return_indices",
        "adaptive_max_pool3d": "input output_size return_indices",
        "fractional_max_pool2d": (
            "input kernel_size output_size output_ratio return_indices _random_samples"
        ),
        "fractional_max_pool3d": (
            "input kernel_size output_size output_ratio return_indices _random_samples"
        ),
        "adaptive_avg_pool1d": "input output_size",
        "linear": "input weight bias",
        "bilinear": "input1 input2 weight bias",
        "prelu": "input weight",
        "logsigmoid": "input",
        "gelu": "input approximate",
        "hardshrink": "input lambd",
        "softshrink": "input lambd",
        "softplus": "input beta threshold",
        "cosine_similarity": "x1 x2 dim eps",
        "pairwise_distance": "x1 x2 p eps keepdim",
        "pdist": "input p",
        "pixel_shuffle": "input upscale_factor",
        "pixel_unshuffle": "input downscale_factor",
        "channel_shuffle": "input groups",
        "one_hot": "input num_classes",
        "pad": "input pad mode value",
        "scaled_dot_product_attention": (
            "query key value attn_mask dropout_p is_causal scale enable_gqa"
        ),
    }.items()
}
"""Argument names of functions that have no signature to read."""
