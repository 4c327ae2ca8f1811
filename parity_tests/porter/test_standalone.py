"""``--standalone``: a file without fluxmod and torch computes what the port does, bit by bit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fluxmod import convert, porter
from fluxmod.cli._app import app
from parity_tests.porter.alone import made, measured, started
from parity_tests.porter.hub import make
from parity_tests.porter.test_written_file import MODEL
from parity_tests.porter.zoo import ZOO

NAMES = ("cifar", "gcn", "gpt2", "lstm", "transformer")
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


def ported(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """A port, and its inputs in its own order of axes."""
    if name == "gpt2":
        model, inputs = make(name)
        port = porter.port(model, **inputs)
        given = {key: value.numpy() for key, value in inputs.items()}
        return port, {row.name: given[row.name] for row in porter.inputs(port)}
    model, args = ZOO[name].make()
    port = porter.port(model, *args)
    rows = zip(porter.inputs(port), args, strict=True)
    return port, {row.name: moved(value.detach().numpy(), row) for row, value in rows}


def moved(value: np.ndarray, row: Any) -> np.ndarray:
    return value if row.channel is None else np.moveaxis(value, row.channel, -1)


class Files:
    """Written files, and what the ports that they were written from compute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.want: dict[str, dict[str, np.ndarray]] = {}
        self.text: dict[str, str] = {}
        for name in NAMES:
            model, inputs = ported(name)
            self.text[name] = porter.source(model, standalone=True)
            if name == "gcn":
                assert porter.source(model, standalone=True) == self.text[name]
            convert.save(model, folder / f"{name}.safetensors")
            np.savez(folder / f"{name}.inputs.npz", **inputs)
            (folder / f"{name}.name").write_text(type(model).__name__.lower())
            (folder / f"{name}.py").write_text(self.text[name])
            ordinary = types.ModuleType("ordinary")
            exec(porter.source(model), vars(ordinary))
            start = started(made(type(model).__name__.lower(), ordinary))
            self.want[name] = start | measured(model, inputs)

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    written = Files(tmp_path_factory.mktemp("standalone"))
    script = str(Path(__file__).with_name("alone.py"))
    subprocess.run([sys.executable, script, str(written.folder), *NAMES], check=True)
    return written


@pytest.mark.parametrize("name", NAMES)
def test_first_values_outputs_gradients_and_statistics_are_the_same_bits(name, files):
    want = files.want[name]
    got = np.load(files.path(f"{name}.got.npz"))
    assert sorted(got.files) == sorted(want)
    assert any(np.any(value) for key, value in want.items() if "gradient" in key)
    for key, value in want.items():
        assert got[key].dtype == value.dtype
        np.testing.assert_array_equal(got[key], value, err_msg=key)


def test_the_recipe_in_the_docstring_builds_a_function_too():
    net = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout(0.1))
    text = porter.source(porter.port(net, torch.randn(2, 4)), standalone=True)
    recipe = re.search(r"model = (.*)", text)[1]
    exec(text, vars(module := types.ModuleType("file")))
    assert eval(recipe, vars(module))(jnp.ones((3, 4))).shape == (3, 2)


@pytest.mark.parametrize("name", NAMES)
def test_everything_in_a_file_is_used(name, files):
    tree = ast.parse(files.text[name])
    public = {n for node in tree.body if is_all(node) for n in ast.literal_eval(node.value)}
    defined = {n: node for node in tree.body for n in names_of(node)}
    for what, node in defined.items():
        if what == "__all__" or what in public:
            continue
        users = [n for each in tree.body if each is not node for n in ast.walk(each)]
        assert any(isinstance(n, ast.Name) and n.id == what for n in users), what
    assert len(defined) == sum(len(names_of(node)) for node in tree.body)


def is_all(node: ast.stmt) -> bool:
    return names_of(node) == ["__all__"]


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        # what completes another definition (@f.defjvp) has a name that nothing reads
        completes = any(isinstance(d, ast.Attribute) for d in node.decorator_list)
        return [] if completes else [node.name]
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def test_the_files_are_formatted_and_clean(files):
    pytest.importorskip("ruff", reason="ruff lays the sources out; install the extra 'torch'")
    paths = [files.path(f"{name}.py") for name in NAMES]
    rules = "E,F,I,B,UP,PIE,ISC"
    for command in (["format", "--check", "--diff"], ["check", "--ignore=E741", "--select", rules]):
        settings = ["--isolated", "--line-length=100"]
        if command[0] == "check":
            settings.append("--target-version=py311")
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings, *paths],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_checks_and_what_converters_read_are_left_out(name, files):
    tree = ast.parse(files.text[name])
    layers = [node for node in tree.body if names_of(node) != ["load"]]
    nodes = [node for each in layers for node in ast.walk(each)]
    assert not [ast.unparse(node) for node in nodes if isinstance(node, ast.Raise)]
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    assert not functions & {"extra_repr", "axes", "check_floating", "__str__"}
    assert not {node.arg for node in nodes if isinstance(node, ast.arg)} & {"who"}
    assert ">>>" not in files.text[name]


def test_loading_says_what_is_wrong(files, monkeypatch):
    monkeypatch.syspath_prepend(str(files.folder))
    import gcn

    monkeypatch.delitem(sys.modules, "gcn")
    from flax import nnx

    model = gcn.GCN(rngs=nnx.Rngs(0))
    with pytest.raises(KeyError, match="lacks"):
        gcn.load(model, files.path("lstm.safetensors"))


def test_the_command_writes_such_a_file(tmp_path, monkeypatch):
    (tmp_path / "fourth_model_of_a_reader.py").write_text(textwrap.dedent(MODEL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["port", "fourth_model_of_a_reader:Net", "--input", "float32[2,3,6,5]"]
    done = CliRunner().invoke(app, [*arguments, "-o", "net.py", "--standalone", "--no-check"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "net.py").read_text()
    compile(text, "net.py", "exec")
    assert "from fluxmod" not in text
    assert 'load(model, "net.safetensors")' in text
