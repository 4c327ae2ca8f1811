"""How a file without ``fluxmod`` loads weights: by a table of what torch names otherwise."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx

from fluxmod import nn
from fluxmod._paths import join
from fluxmod.nn.rules import leaves_of
from fluxmod.porter.style import statement

__all__ = ["loader"]

_LOAD = '''{table}


def load(model: nnx.Module, path: str) -> None:
    """Put weights that a safetensors file holds under torch's names into the model, as they are.

    Raises:
        KeyError: the file lacks some.
        ValueError: one has another shape.
    """
    from safetensors.numpy import load_file

    tensors = load_file(path)
    found: set[int] = set()
    lacking: dict[int, str] = {{}}
    for place, module in nnx.iter_modules(model):
        for name, variable in vars(module).items():
            if not isinstance(variable, nnx.Variable) or isinstance(variable, nnx.RngState):
                continue
            if not variable.get_metadata("persistent", True):
                continue
            {rule}
            key = ".".join([*map(str, place), theirs])
            if key not in tensors:
                lacking[id(variable)] = key
                continue
            value = tensors[key] if order is None else tensors[key].transpose(order)
            if value.shape != variable.shape:
                raise ValueError(f"{{key}}: expected {{variable.shape}}, got {{value.shape}}.")
            variable.set_value(jnp.asarray(value))
            found.add(id(variable))
    if absent := [key for each, key in lacking.items() if each not in found]:
        raise KeyError(f"{{path}} lacks {{absent}}.")
'''
_BY_CLASS = """theirs, order = _IN_TORCH.get(f"{type(module).__name__}.{name}", (name, None))"""
_BY_PATH = """rule = _IN_TORCH.get(f"{type(module).__name__}.{name}", (name, None))
            theirs, order = _IN_TORCH.get(".".join([*map(str, place), name]), rule)"""
_COMMENT = "# What torch names or orders otherwise: its name, and its axes in our order."

Row = tuple[str, tuple[int, ...] | None]


def loader(model: nnx.Module, name_of: Callable[[type], str]) -> str:
    """The function that loads weights, and its table.

    Args:
        name_of: what a layer's class is called in the file.
    """
    by_class: dict[str, dict[str, Row]] = {}
    for path, module in nn.named_modules(model, remove_duplicate=False):
        own = dict(nn.named_variables(module))
        for leaf in leaves_of(module):
            if leaf.flax in own:
                key = f"{name_of(type(module))}.{leaf.flax}"
                by_class.setdefault(key, {})[join(path, leaf.flax)] = (leaf.torch, leaf.perm)
    table: dict[str, Row] = {}
    rule = _BY_CLASS
    for key, rows in by_class.items():
        if len(set(rows.values())) > 1:
            rule = _BY_PATH
            table |= rows
        else:
            row = next(iter(rows.values()))
            if row != (key.rpartition(".")[2], None):
                table[key] = row
    lines = [_COMMENT, *_table(table)]
    return _LOAD.format(table="\n".join(lines), rule=rule)


def _table(table: dict[str, Row]) -> list[str]:
    name = "_IN_TORCH: dict[str, tuple[str, tuple[int, ...] | None]]"
    if not table:
        return [f"{name} = {{}}"]
    rows = [statement(f"{{{key!r}: {row!r}}}", 4)[0].strip()[1:-1] for key, row in table.items()]
    return [f"{name} = {{", *(f"    {row}," for row in rows), "}"]
