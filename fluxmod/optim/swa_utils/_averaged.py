"""The running average of a model's weights, and statistics for what it becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fluxmod import nn

__all__ = [
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

AvgFn = Callable[[Any, Any, Any], Any]
MultiAvgFn = Callable[[list[Any], list[Any], Any], list[Any]]


def get_ema_avg_fn(decay: float = 0.999) -> AvgFn:
    """Return ``avg_fn(ema_param, current_param, num_averaged)`` of an exponential average.

    Raises:
        ValueError: ``decay`` outside [0, 1].

    >>> get_ema_avg_fn(0.75)(jnp.array([1.0]), jnp.array([2.0]), 3).tolist()
    [1.25]

    Source: torch.optim.swa_utils.get_ema_avg_fn, PyTorch 2.13 documentation.
    """
    _check_decay("get_ema_avg_fn", decay)

    def ema_update(ema_param: Any, current_param: Any, num_averaged: Any) -> Any:
        del num_averaged
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> AvgFn:
    """Return ``avg_fn(averaged_param, current_param, num_averaged)`` of the equal average.

    >>> get_swa_avg_fn()(jnp.array([1.0]), jnp.array([2.0]), jnp.array(3)).tolist()
    [1.25]

    Source: torch.optim.swa_utils.get_swa_avg_fn, PyTorch 2.13 documentation.
    """

    def swa_update(averaged_param: Any, current_param: Any, num_averaged: Any) -> Any:
        count = jnp.asarray(num_averaged + 1).astype(_floating(averaged_param))
        return averaged_param + (current_param - averaged_param).astype(count.dtype) / count

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAvgFn:
    """Return ``multi_avg_fn(ema_params, current_params, num_averaged)``; it returns a list.

    Raises:
        ValueError: ``decay`` outside [0, 1].

    Source: torch.optim.swa_utils.get_ema_multi_avg_fn, PyTorch 2.13 documentation.
    """
    _check_decay("get_ema_multi_avg_fn", decay)

    def ema_update(ema: list[Any], current: list[Any], num_averaged: Any) -> list[Any]:
        del num_averaged
        return [_lerp(a, b, 1 - decay) for a, b in zip(ema, current, strict=True)]

    return ema_update


def get_swa_multi_avg_fn() -> MultiAvgFn:
    """Return ``multi_avg_fn(averaged_params, current_params, num_averaged)``; it returns a list.

    The weight is a float32 number, as torch computes it from its int64 count.

    Source: torch.optim.swa_utils.get_swa_multi_avg_fn, PyTorch 2.13 documentation.
    """

    def swa_update(averaged: list[Any], current: list[Any], num_averaged: Any) -> list[Any]:
        weight = 1 / jnp.asarray(num_averaged + 1).astype(jnp.float32)
        return [
            _lerp(a, b, weight.astype(_floating(a))) for a, b in zip(averaged, current, strict=True)
        ]

    return swa_update


def _check_decay(who: str, decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"{who}: expected a decay in [0, 1], got {decay}.")


def _floating(array: Any) -> Any:
    """The array's dtype, of integers torch's default one."""
    dtype = jnp.asarray(array).dtype
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(jnp.float32)


def _lerp(start: Any, end: Any, weight: Any) -> Any:
    dtype = _floating(start)
    return start.astype(dtype) + weight * (end - start).astype(dtype)


class AveragedModel(nn.Module):
    """A copy of a model whose parameters are averages; ``torch.optim.swa_utils.AveragedModel``.

    The first ``update_parameters`` copies, later ones average: equally (SWA), or by ``avg_fn`` or
    ``multi_avg_fn``. Weights convert both ways under torch's names, ``n_averaged`` among them.
    ``update_parameters`` is traced under ``nnx.jit``.

    Args:
        model: any ``nnx.Module``.
        avg_fn: ``avg_fn(averaged, current, num_averaged)`` returns the new average of a parameter.
        multi_avg_fn: the same for lists of all of them; unlike torch's it returns the list.
        use_buffers: average running statistics too, which are otherwise the model's own.

    Raises:
        ValueError: both functions are given, or another model is averaged in.

    >>> model = nn.Linear(1, 1, bias=False, rngs=nnx.Rngs(0))
    >>> average = AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     model.kernel[...] = jnp.full((1, 1), value)
    ...     average.update_parameters(model)
    >>> average.module.kernel[...].tolist(), int(average.n_averaged[...])
    ([[3.0]], 3)

    Source: torch.optim.swa_utils.AveragedModel, PyTorch 2.13 documentation; Izmailov et al., 2018.
    """

    def __init__(
        self,
        model: nnx.Module,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: expected avg_fn or multi_avg_fn, got both.")
        self.module = nnx.clone(model, graph=True)
        self.n_averaged = nn.Buffer(jnp.zeros((), jnp.int32), torch_dtype="int64")
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @property
    def axes(self) -> Any:
        """Those of the model."""
        return getattr(self.module, "axes", super().axes)

    def update_parameters(self, model: nnx.Module) -> None:
        """Take the parameters of ``model`` into the average, in place."""
        pairs = list(_pairs(self.module, model))
        averaged = [p for p in pairs if self.use_buffers or isinstance(p[0], nnx.Param)]
        count = self.n_averaged[...]
        old = [own.get_value() for own, _ in averaged]
        now = [other.get_value() for _, other in averaged]
        if self.multi_avg_fn is not None:
            new = self.multi_avg_fn(old, now, count)
        else:
            rule = self.avg_fn or get_swa_avg_fn()
            new = [rule(a, b, count) for a, b in zip(old, now, strict=True)]
        for (own, other), value in zip(averaged, new, strict=True):
            current = other.get_value()
            own.set_value(jnp.where(count == 0, current, value.astype(current.dtype)))
        for own, other in pairs:
            if not (self.use_buffers or isinstance(own, nnx.Param)):
                own.set_value(other.get_value())
        self.n_averaged[...] = count + 1


def _pairs(own: nnx.Module, other: nnx.Module) -> Iterator[tuple[Any, Any]]:
    """Parameters and buffers of two models by path, a tied one once; random state is left out."""
    ours, theirs = (
        {p: v for p, v in nnx.to_flat_state(nnx.state(m, graph=True)) if _is_weight(v)}
        for m in (own, other)
    )
    if ours.keys() != theirs.keys():
        differing = sorted(".".join(map(str, path)) for path in ours.keys() ^ theirs.keys())
        raise ValueError(
            "AveragedModel: expected the model that it was made of, got one that differs in "
            f"{', '.join(differing[:10])}."
        )
    yield from ((ours[path], theirs[path]) for path in ours)


def _is_weight(variable: Any) -> bool:
    return not isinstance(variable, nnx.RngState | nnx.Intermediate)


def update_bn(loader: Iterable[Any], model: nnx.Module) -> None:
    """Give the BatchNorm layers the statistics of all batches; ``torch.optim.swa_utils.update_bn``.

    The model is called in training mode on every batch, or its first part where that is a tuple or
    a list, and then has the mode from before. A model without BatchNorm is not called.

    >>> layer = nn.BatchNorm1d(1)
    >>> update_bn([jnp.array([[1.0], [3.0]]), jnp.array([[5.0], [7.0]])], layer)
    >>> layer.mean[...].tolist(), int(layer.num_batches_tracked[...])
    ([4.0], 2)

    Source: torch.optim.swa_utils.update_bn, PyTorch 2.13 documentation.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    modules = [module for _, module in nn.named_modules(model)]
    layers = [module for module in modules if isinstance(module, kinds)]
    if not layers:
        return
    for layer in layers:
        for stat, start in ((layer.mean, 0), (layer.var, 1), (layer.num_batches_tracked, 0)):
            if stat is not None:
                stat.set_value(jnp.full_like(stat.get_value(), start))
    momenta = [layer.momentum for layer in layers]
    was_training = not getattr(model, "deterministic", False)
    model.train()
    try:
        for layer in layers:
            layer.momentum = None
        for batch in loader:
            model(batch[0] if isinstance(batch, list | tuple) else batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        if not was_training:
            model.eval()
