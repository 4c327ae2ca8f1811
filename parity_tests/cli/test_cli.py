"""The verbs: what they print, what they write, and their exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from fluxmod.cli._app import app
from fluxmod.models import CATALOG
from fluxmod.parity import Report, Row
from fluxmod.parity import suite as suite_module

FLAGS = {
    "bench": {
        "target",
        "--input",
        "--init",
        "--rounds",
        "--threads",
        "--compile",
        "--conv",
        "--json",
        "--models",
    },
    "convert": {"source", "target", "--model", "--assign", "--cast"},
    "doctor": {"--json"},
    "inspect": {"file"},
    "models": set(),
    "port": {
        "target",
        "--input",
        "--output",
        "--init",
        "--weights",
        "--layout",
        "--dynamic",
        "--standalone",
        "--scan",
        "--override",
        "--coverage",
        "--check",
    },
    "parity": {"models", "--device", "--json", "--html", "--seed"},
}


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_the_verbs_and_their_flags_are_these():
    commands = typer.main.get_command(app).commands
    found = {
        name: {
            param.opts[0] if param.param_type_name == "option" else param.name
            for param in command.params
        }
        for name, command in commands.items()
    }
    assert found == FLAGS


def test_help_loads_neither_framework():
    code = (
        "import sys; from fluxmod.cli import main; sys.argv = ['fluxmod', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_models_lists_every_row():
    result = run("models")
    assert result.exit_code == 0
    assert all(row.name[:12] in result.output for row in CATALOG)


def test_doctor(tmp_path):
    result = run("doctor", "--json", tmp_path / "doctor.json")
    assert result.exit_code == 0
    assert "jax" in result.output
    assert json.loads((tmp_path / "doctor.json").read_text())


def test_parity_writes_json_and_html(tmp_path):
    result = run(
        "parity", "SimpleModel", "--json", tmp_path / "p.json", "--html", tmp_path / "p.html"
    )
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["passed"] is True
    assert set(data["models"][0]["levels"]) == {"L0", "L1", "L2", "L4", "L5"}
    assert "SimpleModel" in (tmp_path / "p.html").read_text()


def test_parity_exits_1_where_something_differs(monkeypatch):
    wrong = Report("Wrong", (Row("L1", "eval", "output", 1.0, 1e-10, False, path="fc"),), 0)
    monkeypatch.setattr(suite_module, "certify", lambda row, **kwargs: wrong)
    result = run("parity", "SimpleModel")
    assert result.exit_code == 1
    assert "first fault: fc" in result.output


@pytest.mark.parametrize(
    "args", [("parity", "NoSuchModel"), ("parity", "--device", "tpu"), ("port",)]
)
def test_usage_errors_exit_2(args):
    assert run(*args).exit_code == 2


def test_convert_and_inspect(tmp_path):
    weights = {
        "linear.weight": np.ones((4, 6), np.float32),
        "linear.bias": np.zeros(4, np.float32),
    }
    save_file(weights, tmp_path / "in.safetensors")
    result = run(
        "convert",
        tmp_path / "in.safetensors",
        tmp_path / "out.safetensors",
        "--model",
        "SimpleModel",
    )
    assert result.exit_code == 0, result.output
    back = load_file(tmp_path / "out.safetensors")
    assert all(np.array_equal(back[key], value) for key, value in weights.items())
    shown = run("inspect", tmp_path / "out.safetensors").output
    assert "linear.weight" in shown
    assert "4" in shown


def test_convert_keeps_dtypes_when_asked(tmp_path):
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("in", "out")]
    save_file(
        {"linear.weight": np.ones((4, 6), np.float16), "linear.bias": np.zeros(4, np.float16)},
        paths[0],
    )
    result = run("convert", *paths, "--model", "SimpleModel", "--assign")
    assert result.exit_code == 0, result.output
    assert load_file(paths[1])["linear.weight"].dtype == np.float16
    result = run("convert", *paths, "--model", "SimpleModel", "--assign", "--cast")
    assert result.exit_code == 2
    assert "--assign the source's" in result.output


def test_a_refused_conversion_writes_nothing_and_exits_1(tmp_path):
    save_file({"other": np.ones(3, np.float32)}, tmp_path / "in.safetensors")
    code = (
        "import sys; from fluxmod.cli import main\n"
        f"sys.argv = ['fluxmod', 'convert', {str(tmp_path / 'in.safetensors')!r}, "
        f"{str(tmp_path / 'out.safetensors')!r}, '--model', 'SimpleModel']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "linear.weight" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_bench_times_a_class_and_its_port(tmp_path):
    given = ["torch.nn:Linear", "--init", "[4, 2]", "--input", "float32[3,4]"]
    result = run("bench", *given, "--rounds", 2, "--no-compile", "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    assert "| Linear | 3 |" in result.output
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["job"] for row in rows] == ["infer", "train"]
    for row in rows:
        assert {"torch eager", "fluxmod"} <= set(row["ms"])
        assert all(ms > 0 for ms in row["ms"].values())
        assert row["unavailable"] == {}
    # 3 rows times 4 x 2 multiply-adds; the gradient of the weight is as much again
    assert [row["gflop"] for row in rows] == [48e-9, 96e-9]


def test_bench_runs_models_of_the_suite(tmp_path):
    given = ["--models", "Liner,MLP", "--rounds", 2, "--no-compile"]
    result = run("bench", *given, "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["model"], row["job"]) for row in rows] == [
        (model, job) for model in ("MLP", "Liner") for job in ("infer", "train")
    ]
    assert "Not measured yet: Model (32), SimpleCNN (64)" in result.output


def test_a_resumed_suite_measures_only_the_rows_that_are_missing(tmp_path):
    from benchmarks.suite import run as suite

    file = tmp_path / "rows.json"
    suite(["MLP"], json=file, rounds=2, compile=False)
    facts_and_rows = json.loads(file.read_text())
    inference, training = facts_and_rows["rows"]
    facts_and_rows["rows"] = [training]
    file.write_text(json.dumps(facts_and_rows))
    suite(["MLP"], json=file, rounds=2, compile=False, resume=True)
    again, kept = json.loads(file.read_text())["rows"]
    assert kept == training
    assert again["job"] == "infer"
    assert again["ms"] != inference["ms"]


def test_bench_says_which_models_there_are_and_where():
    result = run("bench", "--models", "Liner", "--models", "lenet")
    assert result.exit_code == 2
    assert "mlp_256_128_64" in " ".join(result.output.split())
    assert "lenet" in result.output
    assert run("bench", "--models", "Liner", "--conv").exit_code == 2


def test_bench_outside_a_checkout_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.suite", raising=False)
    monkeypatch.setitem(sys.modules, "benchmarks", None)  # cannot be imported
    result = run("bench", "--models", "MLP")
    assert result.exit_code == 2
    assert "in a checkout of fluxmod" in " ".join(result.output.replace("│", " ").split())
