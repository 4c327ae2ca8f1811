"""The base of every fluxmod layer and model: ``nnx.Module`` with torch's habits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flax import nnx

from fluxmod._paths import join

from ._axes import SAME, Axes

__all__ = [
    "Buffer",
    "Module",
    "Parameter",
    "is_trainable",
    "named_children",
    "named_modules",
    "named_variables",
    "structure",
]

Parameter = nnx.Param
"""The twin of ``torch.nn.Parameter``; takes the same ``requires_grad`` keyword (as metadata)."""


class Buffer(nnx.Variable[Any]):
    """State that is saved and not trained; the twin of ``torch.nn.Buffer``.

    ``persistent=False`` (kept as metadata) leaves it out of ``state_dict``, as in torch.

    >>> import jax.numpy as jnp
    >>> Buffer(jnp.zeros(3), persistent=False).get_metadata("persistent")
    False
    """


class Module(nnx.Module):
    """``nnx.Module`` that prints as torch does and knows its mode and its axes.

    ``train()``, ``eval()``, ``nnx.split`` and all other Flax tools work as on any ``nnx.Module``.
    ``train()`` and ``eval()`` set ``deterministic`` on the module and on everything below it;
    ``training`` reads it. Children, parameters and buffers are listed in the order in which they
    were first assigned, as in torch.

    >>> from fluxmod import nn
    >>> class Net(nn.Module):
    ...     def __init__(self, *, rngs):
    ...         self.fc = nn.Linear(4, 2, rngs=rngs)
    ...         self.act = nn.ReLU()
    >>> net = Net(rngs=nnx.Rngs(0))
    >>> print(net)
    Net(
      (fc): Linear(in_features=4, out_features=2, bias=True)
      (act): ReLU()
    )
    >>> net.eval(); net.act.training
    False

    Source: torch.nn.Module, PyTorch 2.13 documentation.
    """

    deterministic: bool = False
    stacked: tuple[str, ...] = ()
    """Paths of children that are stacks of equal blocks, run by ``nnx.scan``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" not in vars(cls):
            # nnx.capture(method_outputs=...) records only methods that a class defines itself
            inherited = (vars(base).get("__call__") for base in cls.__mro__[1:])
            if (call := next(filter(None, inherited), None)) is not None:
                cls.__call__ = call  # type: ignore[method-assign]

    @property
    def training(self) -> bool:
        """Whether the module is in training mode (``not deterministic``)."""
        return not self.deterministic

    @property
    def axes(self) -> Axes:
        """How the order of axes differs from torch's; the same order unless overridden."""
        return SAME

    def set_view(self, deterministic: bool | None = None, **kwargs: Any) -> dict[str, Any]:
        """Set the mode of a view made by ``nnx.view``.

        Args:
          deterministic: if True, evaluation mode.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        return kwargs

    def extra_repr(self) -> str:
        """Return the arguments shown between the parentheses when the module is printed."""
        return ""

    def __str__(self) -> str:
        return structure(self)


def named_children(module: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yield the direct child modules with their names, in the order of first assignment."""
    for name, value in _attributes(module):
        if isinstance(value, nnx.Module):
            yield name, value


def named_variables(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable[Any]]]:
    """Yield the module's own variables (not its children's), random state left out."""
    for name, value in _attributes(module):
        if isinstance(value, nnx.Variable) and not isinstance(value, nnx.RngState):
            yield name, value


def named_modules(
    module: nnx.Module, prefix: str = "", *, remove_duplicate: bool = True
) -> Iterator[tuple[str, nnx.Module]]:
    """Yield every module below and including ``module`` with its dotted path, parents first.

    A module that is reachable twice is listed once, or under each of its paths with
    ``remove_duplicate=False``; a module that contains itself is followed only once.

    >>> from fluxmod import nn
    >>> net = nn.Sequential(nn.Linear(4, 2, rngs=nnx.Rngs(0)), nn.ReLU())
    >>> [path for path, _ in named_modules(net)]
    ['', '0', '1']
    """
    seen: set[int] = set()

    def walk(
        node: nnx.Module, path: str, above: frozenset[int]
    ) -> Iterator[tuple[str, nnx.Module]]:
        if id(node) in (seen if remove_duplicate else above):
            return
        seen.add(id(node))
        yield path, node
        for name, child in named_children(node):
            yield from walk(child, join(path, name), above | {id(node)})

    yield from walk(module, prefix, frozenset())


_is_param = nnx.filterlib.to_predicate(nnx.Param)


def is_trainable(path: Any, value: Any) -> bool:
    """Select parameters that are not frozen; an NNX filter for ``wrt=`` and ``nnx.split``."""
    return _is_param(path, value) and bool(value.get_metadata("requires_grad", True))


def structure(module: nnx.Module) -> str:
    """Return the module tree as ``print(torch_module)`` shows it.

    >>> from fluxmod import nn
    >>> print(structure(nn.Sequential(nn.ReLU(), nn.Flatten())))
    Sequential(
      (0): ReLU()
      (1): Flatten(start_dim=1, end_dim=-1)
    )
    """
    extra = module.extra_repr() if hasattr(module, "extra_repr") else ""
    rows = _merge_equal(module, [(n, structure(c)) for n, c in named_children(module)])
    name = type(module).__name__
    if not rows and "\n" not in extra:
        return f"{name}({extra})"
    lines = (extra.split("\n") if extra else []) + rows
    body = "\n".join(_indent(line) for line in lines)
    return f"{name}(\n{body}\n)"


def _merge_equal(module: nnx.Module, children: list[tuple[str, str]]) -> list[str]:
    """Format children; a list module shows a run of equal neighbours once, as torch does."""
    if not getattr(module, "_merges_equal_children", False):
        return [f"({name}): {text}" for name, text in children]
    runs: list[tuple[int, int, str]] = []
    for index, (_, text) in enumerate(children):
        if runs and runs[-1][2] == text:
            runs[-1] = (runs[-1][0], index, text)
        else:
            runs.append((index, index, text))
    return [
        f"({start}): {text}" if start == end else f"({start}-{end}): {end - start + 1} x {text}"
        for start, end, text in runs
    ]


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.split("\n"))


def _attributes(module: nnx.Module) -> Iterator[tuple[str, Any]]:
    """Yield attributes in the order of first assignment, which NNX keeps through split/merge."""
    values = vars(module)
    for name in module._pytree__nodes:
        if name in values and not name.startswith("_pytree__"):
            yield name, values[name]
