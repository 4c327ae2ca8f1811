"""What ``fluxmod port`` writes is enough: a process without torch gives torch's outputs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import torch
from typer.testing import CliRunner

from fluxmod.cli._app import app

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(self.drop(x.mean((2, 3))))


class Bad(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x
"""
RUN = """
import sys

sys.modules["torch"] = None
import numpy as np
from flax import nnx
from fluxmod import convert
import written

model = written.Net(rngs=nnx.Rngs(0))
convert.to_flax("written.safetensors", model)
model.eval()
np.save("got.npy", model(np.load("x.npy").transpose(0, 2, 3, 1)))
"""


def test_a_file_and_its_weights_run_without_torch(tmp_path, monkeypatch):
    (tmp_path / "model_of_a_reader.py").write_text(textwrap.dedent(MODEL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    arguments = ["port", "model_of_a_reader:Net", "--init", json.dumps({"width": 8})]
    arguments += ["--input", "float32[2,3,6,5]", "-o", "written.py"]
    done = CliRunner().invoke(app, [*arguments, "--weights", "written.safetensors"])
    assert done.exit_code == 0, done.output
    assert "wrote written.py and written.safetensors" in done.output
    assert "Net: equal" in done.output

    from model_of_a_reader import Net
    from safetensors.torch import load_file

    net = Net(width=8)
    net.load_state_dict(load_file("written.safetensors"))
    x = torch.randn(3, 3, 6, 5)
    np.save("x.npy", x.numpy())
    subprocess.run([sys.executable, "-c", RUN], check=True)
    np.testing.assert_allclose(np.load("got.npy"), net.eval()(x).detach(), rtol=1e-5, atol=1e-6)


def test_a_refusal_exits_with_its_text(tmp_path, monkeypatch):
    (tmp_path / "bad_model_of_a_reader.py").write_text(textwrap.dedent(MODEL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["port", "bad_model_of_a_reader:Bad", "--input", "float32[2,3]", "-o", "out.py"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "Python decides on the values of a tensor" in str(done.exception)
    assert not (tmp_path / "out.py").exists()


def test_coverage_says_what_a_model_needs_and_writes_nothing(tmp_path, monkeypatch):
    (tmp_path / "third_model_of_a_reader.py").write_text(textwrap.dedent(MODEL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["port", "third_model_of_a_reader:Net", "--init", '{"width": 8}', "--coverage"]
    done = CliRunner().invoke(app, [*arguments, "--input", "float32[2,3,6,5]"])
    assert done.exit_code == 0, done.output
    assert "Net: can be ported" in done.output
    assert "classes to write: Net" in done.output
    bad = ["port", "third_model_of_a_reader:Bad", "--coverage", "--input", "float32[2,3]"]
    done = CliRunner().invoke(app, bad)
    assert done.exit_code == 1
    assert "Bad: cannot be ported as it is" in done.output
    assert "Python decides on the values of a tensor" in done.output
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".py"] == [
        "third_model_of_a_reader.py"
    ]


def test_a_command_without_a_file_to_write_is_refused():
    done = CliRunner().invoke(app, ["port", "torch.nn:ReLU", "--input", "float32[2,3]"])
    assert done.exit_code == 2
    assert "expected --output FILE, or --coverage" in " ".join(done.output.split())
