"""What a model needs before it is ported: layers, classes to write, operators, obstacles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fluxmod._errors import CaptureError, PortError, UnsupportedOpError

from . import lower, overrides
from .capture import capture
from .ir import Call, Op
from .normalise import normalise
from .port import Options, beside, translate

__all__ = ["Coverage", "coverage"]


@dataclass(frozen=True)
class Coverage:
    """What a model is made of, as the porter sees it.

    Args:
        name: the class of the model.
        layers: calls of layers that ``fluxmod.nn`` has, by name.
        classes: calls of modules whose source is written, by class.
        operators: uses of operators in them.
        missing: those of the operators that have no rule.
        obstacles: why it cannot be ported, empty if it can; one text for all.
        notes: what a port would lack or take for granted.
    """

    name: str
    layers: dict[str, int]
    classes: dict[str, int]
    operators: dict[str, int]
    missing: tuple[str, ...]
    obstacles: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the model can be ported as it is."""
        return not self.obstacles

    def text(self) -> str:
        """The whole as lines of text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: {'can be ported' if self.ready else 'cannot be ported as it is'}"
        for title, table in (
            ("layers of fluxmod.nn", self.layers),
            ("classes to write", self.classes),
            ("operators", self.operators),
        ):
            if table:
                shown = ", ".join(
                    f"{name}{f' x{n}' if n > 1 else ''}{' (no rule)' * (name in self.missing)}"
                    for name, n in sorted(table.items(), key=lambda row: (-row[1], row[0]))
                )
                yield f"  {title}: {shown}"
        if self.obstacles:
            yield self.obstacles
        yield from (f"  note: {note}" for note in self.notes)


def coverage(
    torch_module: torch.nn.Module, *args: Any, options: Options | None = None, **kwargs: Any
) -> Coverage:
    """Say what a model needs and what stands in its way, without building anything.

    Args:
        torch_module, *args, options, **kwargs: as ``port`` takes them.

    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> print(coverage(net, torch.randn(2, 4)).text())
    Sequential: can be ported
      layers of fluxmod.nn: Linear, ReLU
    """
    options = options or Options()
    name = type(torch_module).__name__
    layers: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    missing: set[str] = set()
    obstacles = ""
    notes: tuple[str, ...] = ()
    try:
        with overrides.using(overrides.resolve(options.overrides, torch_module)):
            given, named = beside(torch_module, (args, {**kwargs, **options.kwargs}))
            trace = capture(torch_module, given, named, training=False, free=options.dynamic)
            for item in _items(normalise(trace, torch_module).root):
                if isinstance(item, Op):
                    operators[item.target] += 1
                    if lower.rule_of(item.target) is None:
                        missing.add(item.target)
                elif item.leaf is not None:
                    layers[item.leaf.name] += 1
                elif type(item.module) is not torch.nn.Sequential:
                    classes[type(item.module).__name__] += 1
        notes = translate(torch_module, *args, options=options, **kwargs).notes
    except (CaptureError, UnsupportedOpError, PortError) as error:
        obstacles = str(error)
    return Coverage(
        name,
        dict(layers),
        dict(classes),
        dict(operators),
        tuple(sorted(missing)),
        obstacles,
        notes,
    )


def _items(call: Call) -> Iterator[Any]:
    """A call, what it calls and does, except the insides of layers and what leaves no text."""
    yield call
    for item in call.items if call.leaf is None else ():
        if isinstance(item, Call):
            yield from _items(item)
        elif not item.target.startswith("fluxmod."):
            yield item
