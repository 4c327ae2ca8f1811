"""The parameters and buffers of a class: the text that makes an array's first value."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .arrays import as_numbers, band_value, buffer_value, shape_nodes
from .constructors import same
from .lower import DTYPES
from .specs import Array
from .tables import short_code
from .words import Unported, literal

if TYPE_CHECKING:
    from .classes import ClassCode

__all__ = ["array"]


def array(code: ClassCode, specs: list[Array], node: ast.expr | None) -> str:
    """A parameter or buffer with its first value."""
    tensor = specs[0].tensor
    shapes = [tuple(s.tensor.shape) for s in specs]
    if len({len(s) for s in shapes}) > 1:
        raise Unported(f"{specs[0].path} has different ranks in instances of one class")
    proposals = shape_nodes(node, len(shapes[0]))
    sizes = [
        code.value([s[a] for s in shapes], proposals[a], f"size{a}") for a in range(len(shapes[0]))
    ]
    shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
    dtype = "" if tensor.dtype == torch.float32 else DTYPES[tensor.dtype].replace("int64", "int32")
    if specs[0].kind == "parameter":
        text = _first_value(code, tensor, shape, dtype, node)
        frozen = "" if tensor.requires_grad else ", requires_grad=False"
        return f"nn.Parameter({text}{frozen})"
    persistent = "" if specs[0].persistent else ", persistent=False"
    if specs[0].persistent:
        # a model that is trained from the start needs its masks and tables too
        known = None if _number_of(tensor) is not None else _table(code, specs, sizes)
        text = known or _first_value(code, tensor, shape, dtype, None)
    elif any(s.tensor.is_meta for s in specs):
        raise Unported(
            f"{specs[0].path} is on the meta device and in no checkpoint; make it on the CPU"
        )
    else:
        text = _table(code, specs, sizes) or _unknown_table(code, specs, sizes)
    kept = ', torch_dtype="int64"' if tensor.dtype == torch.int64 else ""
    return f"nn.Buffer({text}{persistent}{kept})"


def _table(code: ClassCode, specs: list[Array], sizes: list[str]) -> str | None:
    """Short code for a constant, or a function as torch has it; None where neither is known."""
    name = specs[0].path.rpartition(".")[2]
    try:
        shown = not specs[0].persistent  # numbers of a checkpoint are no part of the source
        texts = [buffer_value(s.tensor, sizes, numbers=shown) for s in specs]
        if len(set(texts)) == 1:
            return texts[0]
        tables = [short_code(text) for text in texts]
    except Unported:
        tables = [t for s in specs if (t := code.tables.of(s.path)) is not None]
    if len(tables) < len(specs) or len({t.lines for t in tables}) > 1:
        try:
            tables = [short_code(band_value(s.tensor, sizes)) for s in specs]
        except Unported:
            return None
    parameters: list[str] = []
    arguments: list[str] = []
    body = list(tables[0].lines)
    columns: dict[Any, str] = {}
    for index, number in enumerate(tables[0].numbers):
        values = [t.numbers[index] for t in tables]
        text = literal(number)
        if any(not same(v, number) for v in values):
            text = f"{'size' if isinstance(number, int) else 'factor'}{len(columns)}"
            text = columns.setdefault((type(number), tuple(values)), text)
            if len(columns) > len(parameters):
                parameters.append(f"{text}: {type(number).__name__}")
                arguments.append(code.value(values, None, f"{name}_{text}"))
        body = [line.replace(f"_number_{index}_", text) for line in body]
    if len(body) == 1 and not parameters:
        return body[0].removeprefix("return ")
    return f"{code.tables.function(name, parameters, body)}({', '.join(arguments)})"


def _unknown_table(code: ClassCode, specs: list[Array], sizes: list[str]) -> str:
    """A table whose computation torch's source does not show.

    A short one stands as numbers. Others are NaN in the file, loudly, and have torch's values
    in the model that ``port`` returns.
    """
    equal = all(torch.equal(s.tensor, specs[0].tensor) for s in specs)
    try:
        if equal:
            return as_numbers(specs[0].tensor)
    except Unported:
        pass
    tensor = specs[0].tensor
    if not tensor.is_floating_point():
        raise Unported(
            f"the table {specs[0].path} is not saved, and its code was not found; register it as a "
            "persistent buffer"
        )
    code.tables.notes.append(
        f"{specs[0].path}: no checkpoint has it and its computation was not found; the written "
        "file has NaN there until the table is set. Register it as a persistent buffer."
    )
    dtype = "" if tensor.dtype == torch.float32 else f", {DTYPES[tensor.dtype]}"
    shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
    return f"jnp.full({shape}, jnp.nan{dtype})"


def _number_of(tensor: torch.Tensor) -> Any:
    """The number that all elements are, 0 where there are none to see; None where they differ."""
    if tensor.is_meta or not tensor.numel():
        return 0
    first = tensor.detach().reshape(-1)[0]
    return first.item() if bool((tensor.detach() == first).all()) else None


def _first_value(code: ClassCode, tensor: torch.Tensor, shape: str, dtype: str, node: Any) -> str:
    """An array of that shape: torch's distribution where the source shows it."""
    comma = f", {dtype}" if dtype else ""
    shown = shape[1:-2] if shape.endswith(",)") else shape
    value = _number_of(tensor)
    if value is not None:
        if tensor.dtype == torch.float32:
            value = float(str(np.float32(value)))
        if value == 0:
            return f"jnp.zeros({shown}{comma})"
        if value == 1:
            return f"jnp.ones({shown}{comma})"
        if tensor.dim():
            return f"jnp.full({shown}, {literal(value)}{comma})"
        return f"jnp.array({literal(value)}{comma})"
    if tensor.dtype.is_floating_point and node is not None:
        scale = next(
            (
                ast.unparse(n.left)
                for n in ast.walk(node)
                if isinstance(n, ast.BinOp)
                and isinstance(n.op, ast.Mult)
                and isinstance(n.left, ast.Constant)
            ),
            "",
        )
        if "randn" in ast.unparse(node):
            factor = f"{scale} * " if scale else ""
            return f"{factor}jax.random.normal(rngs.params(), {shape}{comma})"
    return f"jnp.zeros({shown}{comma})"
