"""Equal blocks are traced once; blocks that only look equal are not taken for each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal

DIM = 6
RUNS: list[int] = []


class Block(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.layer_idx = index
        self.fc = nn.Linear(DIM, DIM)
        self.norm = nn.BatchNorm1d(DIM)

    def forward(self, x):
        RUNS.append(1)
        return x + torch.tanh(self.norm(self.fc(x)))


class AsksItsNumber(Block):
    def forward(self, x):
        return x + self.fc(x) * (2.0 if self.layer_idx % 2 else 0.5)


class WouldAskForItsNumber(Block):
    """Says where a cache has its keys, and is called without one."""

    def forward(self, x, cache=None):
        RUNS.append(1)
        if cache is not None:
            key, value = cache.update(x, self.layer_idx)
            x = x + key + value
        return x + self.fc(x).tanh()


class AsksThroughItsParent(Block):
    def __init__(self, index):
        super().__init__(index)
        self.inner = AsksItsNumber(index)

    def forward(self, x):
        return self.inner(x).relu()


class WritesIntoItsInput(Block):
    def forward(self, x):
        x += self.fc.bias
        return self.fc(x)


class WritesThroughAView(Block):
    def forward(self, x):
        x[:, :2].mul_(0.5)
        return self.fc(x)


class ReturnsItsInput(Block):
    def forward(self, x):
        self.fc(x)
        return x, self.fc(x)


class Counts(Block):
    def __init__(self, index):
        super().__init__(index)
        self.count = {}

    def forward(self, x):
        self.count["calls"] = self.count.get("calls", 0) + 1
        return self.fc(x) * self.layer_idx


class Buffered(Block):
    def __init__(self, index):
        super().__init__(index)
        self.register_buffer("scale", torch.full((DIM,), 1.0 + index))

    def forward(self, x):
        return self.fc(x) * self.scale


class UpdatesABuffer(Block):
    def __init__(self, index):
        super().__init__(index)
        self.register_buffer("seen", torch.zeros(DIM))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.seen += x.detach().mean(0)
        return self.fc(x) + self.seen


class Gated(Block):
    def __init__(self, index):
        super().__init__(index)
        self.act = nn.ReLU() if index % 2 else nn.Tanh()

    def forward(self, x):
        return self.act(self.fc(x))


class Stack(nn.Module):
    def __init__(self, kind, depth=5):
        super().__init__()
        self.blocks = nn.ModuleList(kind(i) for i in range(depth))

    def forward(self, x):
        x = x + 0.0
        for block in self.blocks:
            x = block(x)
            if isinstance(x, tuple):
                x = x[0] * 2 + x[1]
        return x


class Tied(Stack):
    def __init__(self, kind):
        super().__init__(kind)
        self.blocks[3].fc.weight = self.blocks[0].fc.weight


class Twice(Stack):
    """One module called again and again, with its sizes and then with others."""

    def __init__(self, kind):
        super().__init__(kind, 1)

    def forward(self, x):
        for rows in (x, x, x[:2], x):
            y = self.blocks[0](rows)
        return y + self.blocks[0](x)


KINDS = [
    Block,
    AsksItsNumber,
    AsksThroughItsParent,
    WritesIntoItsInput,
    WritesThroughAView,
    ReturnsItsInput,
    Counts,
    Buffered,
    UpdatesABuffer,
    Gated,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_blocks_are_as_torch_has_them(kind):
    torch.manual_seed(0)
    theirs = Stack(kind)
    x = torch.randn(4, DIM)
    ours = porter.port(theirs, x)
    require_equal(theirs, ours, x)


@pytest.mark.parametrize("model", [Tied(Buffered), Twice(Buffered)], ids=["tied", "twice"])
def test_shared_parts_are_as_torch_has_them(model):
    x = torch.randn(4, DIM)
    require_equal(model, porter.port(model, x), x)


@pytest.mark.parametrize("kind", [Block, WouldAskForItsNumber])
def test_tracing_does_not_grow_with_depth(kind):
    runs = []
    for depth in (4, 12):
        RUNS.clear()
        porter.translate(Stack(kind, depth), torch.randn(4, DIM))
        runs.append(len(RUNS))
    assert runs[0] == runs[1] <= 4


def test_a_model_has_its_numbers_again_afterwards():
    theirs = Stack(AsksItsNumber)
    porter.translate(theirs, torch.randn(4, DIM))
    assert [vars(block)["layer_idx"] for block in theirs.blocks] == [0, 1, 2, 3, 4]
