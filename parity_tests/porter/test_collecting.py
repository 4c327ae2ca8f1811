"""Loops over the steps of a sequence, which torch traces one by one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fluxmod import parity, porter
from fluxmod.porter.collecting import collected


class Outputs(nn.Module):
    """What every step gives goes through a layer."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = x.new_zeros(x.size(0), 6)
        predictions = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            predictions.append(self.out(h))
        return torch.stack(predictions, 1)


class States(nn.Module):
    """Every state, of steps on an input and of steps on what came before; the last ones too."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.LSTMCell(4, 6), nn.Linear(6, 4)

    def forward(self, x):
        h = x.new_zeros(x.size(0), 6)
        c = torch.zeros_like(h)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outputs.append(h)
        y = self.out(h)
        for _ in range(5):
            h, c = self.cell(y, (h, c))
            y = self.out(h)
            outputs += [h]
        return torch.stack(outputs, 1), h, c, y


class Elman(nn.Module):
    """Without a cell; each output gets an axis."""

    def __init__(self):
        super().__init__()
        self.inner, self.hidden, self.out = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        h, ys = torch.zeros(x.size(0), 6, dtype=x.dtype), []
        for i in range(x.size(1)):
            h = torch.tanh(self.inner(x[:, i, :]) + self.hidden(h))
            ys.append(self.out(h).unsqueeze(1))
        return torch.cat(ys, 1)


class Windows(nn.Module):
    """A piece of the input for each step, the first of which has no lower bound."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 6, batch_first=True)

    def forward(self, x):
        h, outputs = x.new_zeros(1, x.size(0), 6), []
        for i in range(4):
            output, h = self.rnn(x[:, i : i + 2], h)
            outputs.append(F.relu(output))
        return torch.cat(outputs, dim=1)


class Attending(nn.Module):
    """Two lists: what each step gives, and what it looked at."""

    def __init__(self):
        super().__init__()
        self.cell, self.score, self.out = nn.GRUCell(4, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x):
        h = x.mean(1)
        outputs, looks = [], []
        for t in range(x.size(1)):
            weight = (x @ self.score(h).unsqueeze(2)).softmax(1)
            context = (weight * x).sum(1)
            h = self.cell(x[:, t], h)
            outputs.append(self.out(torch.cat([h, context], 1)))
            looks.append(weight.squeeze(2))
        return torch.stack(outputs, 1), torch.stack(looks, 1)


class Doubled(nn.Module):
    """What a step draws is in the list twice: it is drawn once."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        outputs = []
        for t in range(4):
            y = self.drop(x[:, t])
            outputs.append(y[:, : y.size(1) // 2] * y[:, 2:])
        return torch.stack(outputs, 1)


class Dropped(nn.Module):
    """All steps, and then a layer that draws numbers for each of them."""

    def __init__(self):
        super().__init__()
        self.cell, self.drop = nn.RNNCell(4, 6), nn.Dropout(0.5)

    def forward(self, x):
        h, states = x.new_zeros(x.size(0), 6), []
        for t in range(x.size(1)):
            h = self.cell(self.drop(x[:, t]), h)
            states.append(h)
        return torch.stack([self.drop(h) for h in states], 1)


class Kept(nn.Module):
    """The first state is read again at the end."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(4, 6)

    def forward(self, x):
        h, states = x.new_zeros(x.size(0), 6), []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            states.append(h)
        y = torch.stack(states, 1) * 2
        return y - states[0][:, None]


def ported(make):
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 5, 4)
    flax = porter.port(model, x)
    options = parity.Options(levels=("L1", "L2"))
    parity.check(model, flax, x, options=options).require()
    source = porter.source(flax)
    return source[source.index("    def __call__") :]


@pytest.mark.parametrize(
    ("make", "names", "loops"),
    [
        (Outputs, ["predictions"], 1),
        (States, ["outputs"], 2),
        (Elman, ["ys"], 1),
        (Attending, ["outputs", "looks"], 1),
        (Doubled, ["outputs"], 1),
    ],
)
def test_steps_are_a_loop(make, names, loops):
    source = ported(make)
    assert source.count("    for ") == loops
    for name in names:
        assert f"        {name} = []\n" in source
        assert source.count(f"    {name}.append(") == loops


def test_pieces_of_the_input_are_a_loop():
    assert "x[:, i : i + 2]" in ported(Windows)


@pytest.mark.parametrize("make", [Dropped, Kept])
def test_what_is_no_loop_stays(make):
    ported(make)


def rounds(first, others, last):
    """Statements of a first round and five more, and what is done with the list of all."""
    made = [first, *(others.format(k, k - 1) for k in range(1, 6))]
    listed = ", ".join(f"h{k}" for k in range(6))
    return "\n".join([*made, last.format(f"[{listed}]")])


STATEMENTS = {
    "a loop": rounds("h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "return stack({0})"),
    "read after the list": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "z = stack({0})\nreturn z + h0"
    ),
    "a later one read after the list": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "z = stack({0})\nreturn z + h3"
    ),
    "the last one read after the list": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}])", "z = stack({0})\nreturn z + h5"
    ),
    "the last state read after the list": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "z = stack({0})\ny = g(h5)\nreturn z + h5 * y"
    ),
    "the list under the first one's name": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "h0 = stack({0})\ny = h0 * 2\nreturn y + h0"
    ),
    "the list under the first one's name, the last read later": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "h0 = stack({0})\ny = h0 * 2\nreturn y + h5"
    ),
    "the list under the last one's name": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}", "h5 = stack({0})\ny = h5 * 2\nreturn y + h5"
    ),
    "a branch after it": rounds(
        "h0 = f(x[0])",
        "h{0} = f(x[{0}]) + h{1}",
        "z = stack({0})\nif self.training:\n    z = z + h5\nreturn z",
    ),
    "the first one read in every round": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1} * h0", "return stack({0})"
    ),
    "something else made of each": rounds(
        "h0 = f(x[0])", "h{0} = f(x[{0}]) + h{1}\na = g(h{0})", "return stack({0}) + a"
    ),
    "set in a branch": "y = 1\nif self.training:\n    y = 2\nreturn stack([y, y, y, y])",
    "in another order": "\n".join(
        [*(f"y{k} = f(x[{k}])" for k in range(4)), "return stack([y3, y2, y1, y0])"]
    ),
    "its own argument": "\n".join(
        [
            *(f"y{k} = f(x[{k}])" for k in range(4)),
            f"return stack([{', '.join(f'y{k}.__add__(y{k})' for k in range(4))}])",
        ]
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_mean_the_same(name):
    def run(lines):
        called = []
        space = {
            "f": lambda x: called.append(x) or x * 2,
            "g": lambda h: called.append(h) or h + 1,
            "stack": lambda values: sum((k + 1) * v for k, v in enumerate(values)),
        }
        body = "\n".join(f"    {line}" for line in lines)
        exec(f"def forward(self, x):\n{body}", space)
        return space["forward"](nn.Module(), [3, 5, 7, 11, 13, 17]), called

    lines = STATEMENTS[name].split("\n")
    assert run(collected(lines, nn.Module())) == run(lines)


@pytest.mark.parametrize(
    ("name", "last"), [("a loop", []), ("the last state read after the list", ["y = g(h0)"])]
)
def test_rounds_but_for_the_first_are_a_loop(name, last):
    lines = collected(STATEMENTS[name].split("\n"), nn.Module())
    assert lines[:-1] == [
        "h0 = f(x[0])",
        "outputs = []",
        "for i in range(1, 6):",
        "    outputs.append(h0)",
        "    h0 = f(x[i]) + h0",
        "outputs.append(h0)",
        *(["z = stack(outputs)", *last] if last else []),
    ]
