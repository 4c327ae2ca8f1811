from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from fluxmod.doctor import cxx_compiler, diagnose

ROOT = Path(__file__).parents[1]


def in_fresh_process(code: str, **env: str) -> str:
    """Run ``code`` in a new interpreter with nothing but ``env`` changed; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_and_switches_are_the_running_ones(x64, device):
    found = diagnose()
    versions = {package.name: package.version for package in found.packages}
    assert versions["jax"] == jax.__version__
    assert versions["torch"] == torch.__version__
    assert versions["numpy"] == np.__version__
    assert None not in versions.values()
    assert found.problems == ()
    assert found.python.startswith(".".join(map(str, sys.version_info[:3])))
    assert found.jax.x64
    assert found.jax.matmul_precision == "highest"
    assert found.jax.xla_flags == os.environ["XLA_FLAGS"]
    assert found.torch.threads == torch.get_num_threads()
    assert found.torch.deterministic
    if device == "cpu":
        assert found.jax.devices == ("8 x cpu: cpu",)


@pytest.mark.gpu
def test_the_gpu_is_listed_by_both():
    found = diagnose()
    assert found.jax.backend == "gpu"
    assert any(name.startswith("cuda: ") for name in found.torch.devices)


def test_text_has_a_line_for_every_value():
    lines = diagnose().text().splitlines()
    shown = {line.split("  ")[0] for line in lines if line}
    assert {"python", "flax", "jax x64", "torch threads", "C++ for torch.compile"} <= shown
    assert all(line == line.rstrip() for line in lines)


def test_json_holds_everything():
    found = diagnose()
    assert json.loads(found.to_json()) == json.loads(json.dumps(asdict(found)))


# A finder in front of the others makes a package look not installed.
HIDE = """
import sys
from importlib import metadata
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
version = metadata.version
def missing(name):
    if name == {name!r}:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = missing
sys.meta_path.insert(0, Hidden())
from fluxmod.doctor import diagnose
print(diagnose().text())
"""


def test_without_torch_the_extra_is_named():
    text = in_fresh_process(HIDE.format(name="torch"))
    assert "missing; pip install 'fluxmod[torch]'" in text
    assert "torch threads" not in text
    assert "problem" not in text


def test_without_jax_it_still_answers():
    text = in_fresh_process(HIDE.format(name="jax"))
    assert "problem" in text
    assert "jax: missing; pip install 'fluxmod'" in text
    assert "torch threads" in text


def test_a_backend_that_does_not_start_is_a_problem_not_a_crash():
    code = "from fluxmod.doctor import diagnose; print(diagnose().text())"
    text = in_fresh_process(code, JAX_PLATFORMS="no_such_platform")
    assert "jax does not work: RuntimeError" in text
    assert "jax backend" not in text


def test_the_compiler_is_the_one_torch_would_call(monkeypatch, tmp_path):
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert cxx_compiler() == str(compiler)
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    assert cxx_compiler() is None
    assert "missing; only torch.compile needs it" in diagnose().text()
