"""RNN, LSTM, GRU and their cells: torch's names; a weight is the transpose of torch's."""

from __future__ import annotations

from fluxmod.nn._recurrent import RNNBase
from fluxmod.nn._recurrent_cell import RNNCellBase

from ._leaf import Leaf, Rule


def _recurrent(layer: RNNBase | RNNCellBase) -> tuple[Leaf, ...]:
    """(gates, in) -> (in, gates); gates stay in torch's order, biases as they are."""
    return tuple(
        Leaf(name, name, (1, 0) if name.startswith("weight") else None)
        for name in layer.weight_names
    )


RULES: dict[type, Rule] = {RNNBase: _recurrent, RNNCellBase: _recurrent}
