"""First values of parameters and buffers, as code."""

from __future__ import annotations

import ast

import numpy as np
import torch

from fluxmod.convert._source import as_numpy

from .lower import DTYPES
from .words import Unported, literal

__all__ = ["as_numbers", "band_value", "buffer_value", "shape_nodes"]

_MOST = 4096  # numbers of a table that may stand in the source


def shape_nodes(node: ast.expr | None, rank: int) -> list[ast.expr | None]:
    """The expressions of a shape in ``nn.Parameter(torch.zeros(1, n, dim))``."""
    for call in ast.walk(node) if node is not None else ():
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("torch."):
            sizes: list[ast.expr] = list(call.args)
            if len(sizes) == 1 and isinstance(sizes[0], (ast.Tuple, ast.List)):
                sizes = list(sizes[0].elts)
            if len(sizes) == rank and not any(isinstance(s, ast.Starred) for s in sizes):
                return list(sizes)
    return [None] * rank


def buffer_value(tensor: torch.Tensor, sizes: list[str], *, numbers: bool = True) -> str:
    """A constant array as code: a range, a mask, frequencies; with ``numbers``, small ones as such.

    Raises:
        Unported: the array is neither; a wall of numbers is no source.
    """
    array = as_numpy(tensor)
    dtype = "" if tensor.dtype in (torch.float32, torch.int64) else f", {DTYPES[tensor.dtype]}"
    shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
    if array.size and (array == array.reshape(-1)[0]).all():
        value = array.reshape(-1)[0].item()
        kind = (
            ""
            if tensor.dtype == torch.float32
            else f", {DTYPES[tensor.dtype]}".replace("jnp.int64", "int")
        )
        if not array.ndim:
            return f"jnp.array({literal(value)}{kind})"
        return f"jnp.full({shape}, {literal(value)}{kind})"
    flat = array.reshape(-1)
    if flat.size == max(array.shape) and flat.size > 1 and array.dtype.kind in "iu":
        if (flat == flat[0] + np.arange(flat.size)).all():
            first, end = int(flat[0]), int(flat[0]) + flat.size
            text = f"jnp.arange({first}, {end})" if first else f"jnp.arange({end})"
            return text if array.ndim == 1 else f"{text}.reshape{shape}"
    if array.ndim >= 2 and array.shape[-1] == array.shape[-2]:
        n = array.shape[-1]
        for name in ("tril", "triu"):
            for offset in (0, 1):
                want = getattr(np, name)(np.ones((n, n)), offset)
                if (array.reshape(-1, n, n) == want).all():
                    ones = f"jnp.ones(({sizes[-2]}, {sizes[-1]}){dtype})"
                    text = f"jnp.{name}({ones}{f', {offset}' if offset else ''})"
                    return text if array.ndim == 2 else f"{text}.reshape{shape}"
    if array.ndim == 1 and array.dtype.kind == "f" and array.size > 1 and array[0] == 1.0:
        n = array.size
        base = float(array[1]) ** -n if array[1] > 0 else 0
        for rounded in (round(base, -1), round(base)):
            want = 1.0 / (
                np.float32(rounded)
                ** (np.arange(0, 2 * n, 2, dtype=np.float32) / np.float32(2 * n))
            )
            if rounded > 1 and np.allclose(want, array, rtol=1e-6, atol=0):
                return f"1.0 / ({rounded:.1f} ** (jnp.arange(0, {2 * n}, 2) / {2 * n}))"
    if (found := _relative_positions(array)) is not None:
        return found
    if array.size <= 16 and numbers:
        return f"jnp.array({array.tolist()!r}{dtype})"
    raise Unported("a buffer that is not saved and cannot be written as code")


def band_value(tensor: torch.Tensor, sizes: list[str]) -> str:
    """A mask of the places that are neither too far behind nor too far ahead, as code.

    Raises:
        Unported: it is none.
    """
    array = as_numpy(tensor)
    n = array.shape[-1] if array.ndim > 1 else 0
    if array.dtype == bool and array.shape[-2:] == (n, n) and array.size == n * n and array.any():
        i, j = np.nonzero(array.reshape(n, n))
        low, high = int((i - j).min()), int((i - j).max())
        near = np.tri(n, k=-low, dtype=bool) & ~np.tri(n, k=-high - 1, dtype=bool)
        if (array.reshape(n, n) == near).all():
            text = f"jnp.tri({n}, k={-low}, dtype=bool) & ~jnp.tri({n}, k={-high - 1}, dtype=bool)"
            return text if array.ndim == 2 else f"({text}).reshape({', '.join(sizes)})"
    raise Unported("a mask that is no band")


def as_numbers(tensor: torch.Tensor) -> str:
    """An array as its numbers: the last resort, and only for tables that a page can show.

    Raises:
        Unported: it has too many.
    """
    if tensor.numel() > _MOST:
        raise Unported(
            f"a constant of {tensor.numel()} numbers whose computation was not found; register it "
            "as a persistent buffer"
        )
    array = as_numpy(tensor)
    short = array.dtype == np.float32
    flat = [float(str(x)) if short else x.item() for x in array.reshape(-1)]
    dtype = "" if tensor.dtype == torch.float32 else f", {DTYPES[tensor.dtype]}"
    text = f"jnp.array([{', '.join(map(literal, flat))}]{dtype.replace('jnp.int64', 'int')})"
    return text if array.ndim == 1 else f"jnp.reshape({text}, {array.shape})"


def _relative_positions(array: np.ndarray) -> str | None:
    """The index of Swin's table: the offset between two places in a square window."""
    if array.ndim == 1 and (side := int(array.size**0.5)) ** 2 == array.size and side > 1:
        text = _relative_positions(array.reshape(side, side))
        return text and f"({text}).reshape(-1)"
    if array.ndim != 2 or array.dtype.kind != "i":
        return None
    if array.shape[0] != array.shape[1]:
        return _strided_distances(array)
    w = int(array.shape[0] ** 0.5)
    y, x = np.arange(w * w) // w, np.arange(w * w) % w
    index = (y[:, None] - y + w - 1) * (2 * w - 1) + x[:, None] - x + w - 1
    y_text, x_text = f"jnp.arange({w * w}) // {w}", f"jnp.arange({w * w}) % {w}"
    if w * w != array.shape[0]:
        return None
    if (array == np.abs(y[:, None] - y) * w + np.abs(x[:, None] - x)).all():  # LeViT's
        rows, columns = (f"jnp.abs(({t})[:, None] - {t})" for t in (y_text, x_text))
        return f"{rows} * {w} + {columns}"
    if not (array == index).all():
        return None
    rows = f"(({y_text})[:, None] - {y_text} + {w - 1}) * {2 * w - 1}"
    return f"{rows} + ({x_text})[:, None] - {x_text} + {w - 1}"


def _strided_distances(array: np.ndarray) -> str | None:
    """The index of LeViT's table where its window shrinks: distances from every few places."""
    rows, w = (int(n**0.5) for n in array.shape)
    if (rows * rows, w * w) != array.shape or not 0 < rows < w:
        return None
    step = -(-w // rows)
    near, far = np.arange(rows * rows)[:, None], np.arange(w * w)
    high = np.abs(near // rows * step - far // w)
    wide = np.abs(near % rows * step - far % w)
    if not (array == high * w + wide).all():
        return None
    n_text, f_text = f"jnp.arange({rows * rows})[:, None]", f"jnp.arange({w * w})"
    high_text = f"jnp.abs({n_text} // {rows} * {step} - {f_text} // {w})"
    wide_text = f"jnp.abs({n_text} % {rows} * {step} - {f_text} % {w})"
    return f"{high_text} * {w} + {wide_text}"
