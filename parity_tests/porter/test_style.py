"""Statements mean what they meant, and the file is laid out by ruff, if it is there."""

from __future__ import annotations

import ast

import pytest
import torch

from fluxmod import porter
from fluxmod.porter import style
from fluxmod.porter.emit import _hint
from fluxmod.porter.style import formatted, statement

LINES = [
    "x = self.conv1(x)",
    (
        "self.layers = nn.ModuleList(Block(dim, num_heads, mlp_ratio=mlp_ratio, rngs=rngs) "
        "for _ in range(depth))"
    ),
    "y = (a + b) * c ** 2 - x[:, 1:, n + 1 :] @ w.T",
    "return x + self.mlp['dropout'](self.mlp['c_proj'](F.gelu(x, approximate='tanh')))",
    "x = (self.kernel[...].T / scale).T",
    "x = y * (a + b) * (z - f(a, 2))",
    "x = y + (f(a, 1) / b if c else (a + d))[0].T",
    "x = f((a(b, c) - d).astype(int), *(a or e(c)), k=(f, g))",
    "return (a.reshape(b.shape[0], 2, 3),)",
    "a, (b, c) = d = -x ** 2, not (y and z), lambda i: (i, 1)",
    "x = {'a': 1, **b}, [i for i, j in c if i], x[..., None, ::2], f'{a}:{b!r}'",
]


@pytest.mark.parametrize("line", LINES)
def test_a_statement_keeps_its_meaning(line):
    text = "def f():\n" + "\n".join(statement(line, 4)) + "\n"
    for each in (text, formatted(text)):
        assert ast.dump(ast.parse(each)) == ast.dump(ast.parse(f"def f():\n    {line}\n"))


def test_a_long_statement_is_laid_out():
    pytest.importorskip("ruff", reason="ruff lays the sources out; install the extra 'torch'")
    name = "a_name_that_is_quite_long"
    text = f"x = {name}.reshape({name}.shape[0], {name}.shape[1], -1, 3).swapaxes(1, 2)\n"
    assert formatted(text).splitlines()[0] == f"x = {name}.reshape("
    assert ast.dump(ast.parse(formatted(text))) == ast.dump(ast.parse(text))


def test_many_numbers_stand_on_few_lines():
    line = f"self.table = jnp.array({[n / 7 for n in range(40)]})"
    text = "\n".join(statement(line, 0)) + "\n"
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(line))
    assert len(text.splitlines()) < 12
    assert max(map(len, text.splitlines())) <= 100
    assert formatted(text) == text


def test_numbers_that_are_arguments_are_laid_out_by_ruff():
    line = f"x = f(g({', '.join(['1234567'] * 12)}, k=1), {', '.join(['2.5'] * 12)})"
    assert statement(line, 0) == [line]


def test_what_is_no_python_comes_back_as_it_is():
    assert formatted("x = = 1\n") == "x = = 1\n"


def test_without_ruff_the_program_is_the_same(monkeypatch):
    net = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = torch.randn(2, 3, 8)
    laid_out = porter.source(porter.port(net, x))
    monkeypatch.setattr(style, "_has_ruff", lambda: False)
    plain = porter.source(porter.port(net, x))
    assert ast.dump(ast.parse(plain)) == ast.dump(ast.parse(laid_out))


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([(1, 2), (3,)], ": tuple[int, ...]"),
        ([(0.5, 1)], ": tuple[float, ...]"),
        ([((1, 2), (3, 4))], ": tuple[tuple[int, ...], ...]"),
        ([()], ": tuple"),
        ([None, 3], ": int | None"),
        ([True], ": bool"),
        ([{}], ""),
        ([], ""),
    ],
)
def test_arguments_have_the_type_of_their_values(values, hint):
    assert _hint(values) == hint
