"""The formatter lays statements out as ruff does."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from fluxmod.porter.style import statement

LINES = [
    "x = self.conv1(x)",
    (
        "self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, "
        "rngs=rngs)"
    ),
    (
        "self.layers = nn.ModuleList(Block(dim, num_heads, mlp_ratio=mlp_ratio, rngs=rngs) "
        "for _ in range(depth))"
    ),
    (
        "qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads)"
        ".transpose(2, 0, 3, 1, 4)"
    ),
    "y = (a + b) * c ** 2 - x[:, 1:, n + 1 :] @ w.T",
    (
        "return x + self.mlp['dropout'](self.mlp['c_proj'](F.gelu(self.mlp['c_fc'](self.ln_2(x)), "
        "approximate='tanh')))"
    ),
    (
        "x = first_long_name_of_a_value * second_long_name_of_a_value + third_long_name_of_a_value "
        "* a_last_one"
    ),
]


@pytest.mark.parametrize("line", LINES)
def test_a_statement_is_laid_out_as_ruff_does(line):
    text = "def f():\n" + "\n".join(statement(line, 4)) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--line-length", "100", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    assert text == done.stdout


LONG = "_".join(["a_name_that_is_long"] * 3)


@pytest.mark.parametrize(
    "line",
    [
        f"x = (self.{LONG}[...].T / {LONG}_2).T",
        f"x = y * ({LONG} + {LONG}_2) * (z - f({LONG}, 2))",
        f"x = y + (f({LONG}, 1) / {LONG} if {LONG} else (a + {LONG}))[0].T",
        f"x = f(({LONG}(a, b) - {LONG}).astype(int), *(a or {LONG}(c)), k=({LONG}, {LONG}))",
        f"return ({LONG}.reshape({LONG}.shape[0], {LONG}.shape[1], 3, 4, 5, 6),)",
        f"return g((({LONG} - {LONG}_2) ** 2).mean(axis=1), {LONG} < {LONG}_2)",
    ],
)
def test_a_long_statement_keeps_its_meaning(line):
    text = "def f():\n" + "\n".join(statement(line, 4)) + "\n"
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(f"def f():\n    {line}\n"))
