"""Where an array's axes stand in torch, for the few optimizers whose result depends on it.

Most rules work element by element and need none of this. Adafactor averages over rows and columns,
Muon looks at the shape of a matrix and SparseAdam at its rows: theirs, not ours, where a kernel is
stored with other axes than in torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

__all__ = ["TorchAxes", "axes_of", "path_text", "to_flax", "to_torch"]

TorchAxes = Mapping[str, Sequence[int]]
"""Paths of parameters, and the permutation that brings each into torch's order of axes."""

_VALUE = jax.tree_util.GetAttrKey("value")


def path_text(path: Any) -> str:
    """Turn a key path into our dotted path; the step into a Variable is left out.

    >>> path_text((jax.tree_util.DictKey("fc"), jax.tree_util.DictKey("kernel")))
    'fc.kernel'
    """
    inside = path[-1:] == (_VALUE,)
    return jax.tree_util.keystr(path[:-1] if inside else path, simple=True, separator=".")


def axes_of(
    who: str, params: Any, torch_axes: tuple[tuple[str, tuple[int, ...]], ...] | None
) -> list[tuple[int, ...] | None]:
    """Return the permutation of each leaf, None where the order is torch's.

    Raises:
        ValueError: nothing was said about the parameters of a module, or a permutation does not
            fit its parameter.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if torch_axes is None:
        told = [path_text(p) for p, leaf in leaves if p[-1:] == (_VALUE,) and np.ndim(leaf) > 1]
        if told:
            raise ValueError(
                f"{who}: the result depends on the order of axes that {', '.join(told[:5])} "
                f"{'has' if len(told) == 1 else 'have'} in torch. Pass "
                "torch_axes=convert.torch_axes(model), or torch_axes={} if all stand as in torch."
            )
        return [None] * len(leaves)
    known = dict(torch_axes)
    found = [known.get(path_text(path)) for path, _ in leaves]
    wrong = [
        f"{path_text(path)} {np.shape(leaf)}: {axes}"
        for (path, leaf), axes in zip(leaves, found, strict=True)
        if axes is not None and sorted(axes) != list(range(np.ndim(leaf)))
    ]
    if wrong:
        raise ValueError(
            f"{who}: expected torch_axes that permute the axes of the parameter, got "
            f"{'; '.join(wrong[:5])}."
        )
    return found


def to_torch(array: Any, axes: tuple[int, ...] | None) -> Any:
    """Bring an array into torch's order; scalars kept per parameter have none."""
    return array if axes is None or np.ndim(array) != len(axes) else array.transpose(axes)


def to_flax(array: Any, axes: tuple[int, ...] | None) -> Any:
    """Undo ``to_torch``."""
    if axes is None or np.ndim(array) != len(axes):
        return array
    return array.transpose([int(i) for i in np.argsort(axes)])
