"""Every example runs, in both frameworks, resumes, and ends with its figures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *args: str) -> str:
    env = {**os.environ, "XLA_FLAGS": "", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *args],
        capture_output=True,
        text=True,
        env=env,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figure(output: str, name: str) -> float:
    return float(re.search(rf"^{name}\s+([-\d.]+)", output, re.MULTILINE)[1])


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_classifier_learns_and_resumes(backend, tmp_path):
    args = ("--backend", backend, "--checkpoint", str(tmp_path))
    first = run("train_neural_network.py", *args, "--epochs", "1")
    assert figure(first, "steps") == 22
    assert figure(first, "last loss") < figure(first, "first loss")
    second = run("train_neural_network.py", *args, "--epochs", "2")
    assert "resumed after 22 steps" in second
    assert figure(second, "steps") == 22
    assert figure(second, "held out accuracy") > 0.8


def test_both_backends_see_the_same_batches_from_the_same_start():
    """Same data order: with the same seed the two losses fall alike, though weights differ."""
    losses = [
        figure(run("train_simple_cnn.py", "--backend", b, "--steps", "8"), "last loss")
        for b in ("torch", "flax")
    ]
    assert all(loss < 2.3 for loss in losses)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_the_vla_example_scores_three_policies(backend):
    out = run(
        "train_vla.py",
        *("--backend", backend, "--demonstrations", "200", "--steps", "2", "--episodes", "20"),
    )
    assert "success instructed" in out
    assert "success blind" in out
    assert "success chance" in out


def test_the_tour_gives_the_same_answers_in_both_frameworks(tmp_path):
    out = run("module_tour.py", "--epochs", "2", "--checkpoint", str(tmp_path / "tour.pt"))
    assert out.count("encoder.fc1.weight") == 2
    assert out.count("fc1.weight: no gradient") == 2
    assert out.count("fc2.weight: gradient") == 2
    assert (tmp_path / "tour.pt").exists()


@pytest.mark.slow
def test_the_demo(tmp_path):
    out = run("demo.py", "--epochs", "1", "--out", str(tmp_path))
    assert "certificate            equal" in out
    assert "360/360" in out
    page = (tmp_path / "demo.html").read_text()
    assert "<svg" in page
