"""RNN, LSTM, GRU and their cells: torch's names; a weight is the transpose of torch's."""

from __future__ import annotations

from fluxmod import nn

from ._leaf import Leaf, Rule


def _recurrent(layer: nn.RNNBase | nn.RNNCellBase) -> tuple[Leaf, ...]:
    """(gates, in) -> (in, gates); gates stay in torch's order, biases as they are."""
    return tuple(
        Leaf(name, name, (1, 0) if name.startswith("weight") else None)
        for name in layer.weight_names
    )


RULES: dict[type, Rule] = {nn.RNNBase: _recurrent, nn.RNNCellBase: _recurrent}
