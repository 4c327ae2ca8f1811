from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fluxmod import nn, optim
from fluxmod._errors import CheckpointError
from fluxmod.train import Checkpoints, Trainer
from parity_tests.compare import bitwise
from parity_tests.train.nets import Net, batches, frozen_encoder, stacked, trainer, values

ROOT = Path(__file__).parents[2]


def amsgrad():
    return optax.chain(optim.clip_grad_norm(1.0), optim.Adam(lr=0.01, amsgrad=True))


# A resumed run


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, dtype):
    with jax.enable_x64(dtype == "float64"):
        net = Net(param_dtype=getattr(jnp, dtype), rngs=nnx.Rngs(0))
        data = batches(7, dtype=getattr(jnp, dtype))
        straight = trainer(net, amsgrad())
        losses = [straight.step(batch)["loss"] for batch in data]
        before = trainer(net, amsgrad())
        for batch in data[:3]:
            before.step(batch)
        Checkpoints(tmp_path).save(before, extra={"drawn": 3, "order": [2, 0, 1], "raw": b"\0\xff"})

        after = trainer(Net(param_dtype=getattr(jnp, dtype), rngs=nnx.Rngs(9)), amsgrad())
        after.step(data[6])
        extra = Checkpoints(tmp_path).restore(after)
        assert extra == {"drawn": 3, "order": [2, 0, 1], "raw": b"\0\xff"}
        assert after.steps_done == 3
        resumed = [after.step(batch)["loss"] for batch in data[extra["drawn"] :]]
        assert [float(x) for x in resumed] == [float(x) for x in losses[3:]]
        bitwise(values(after), values(straight))


def test_a_frozen_part_and_chunks_resume_too(tmp_path):
    data = batches(6)
    straight, before = trainer(frozen_encoder()), trainer(frozen_encoder())
    for fit in (straight, before):
        fit.steps(stacked(data[:3]))
    Checkpoints(tmp_path).save(before)
    after = trainer(frozen_encoder())
    assert Checkpoints(tmp_path).restore(after) is None
    for fit in (straight, after):
        fit.steps(stacked(data[3:]))
    bitwise(values(after), values(straight))


def test_a_checkpoint_does_not_change_when_training_goes_on(tmp_path):
    fit, checkpoints = trainer(), Checkpoints(tmp_path)
    kept = values(fit)
    checkpoints.save(fit)
    fit.step(batches(1)[0])
    checkpoints.restore(fit, 0)
    bitwise(values(fit), kept)


def test_arrays_of_every_kind_come_back(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(jnp.ones((2, 3), jnp.float16))
            self.empty = nn.Parameter(jnp.zeros((0, 3)))
            self.flags = nn.Buffer(jnp.array([True, False]))
            self.count = nn.Buffer(jnp.array(7, jnp.int32))
            self.bytes = nn.Buffer(jnp.arange(5, dtype=jnp.uint8))
            self.wave = nn.Buffer(jnp.array([1 + 2j]))
            self.special = nn.Buffer(jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42]))

    def build():
        return Trainer(Odd(), optim.SGD(), lambda model, batch: model.weight[...].sum())

    fit, checkpoints = build(), Checkpoints(tmp_path)
    checkpoints.save(fit)
    fresh = build()
    blank = {k: v if "optimizer" in k else jnp.zeros_like(v) for k, v in fresh.state().items()}
    fresh.load_state(blank, steps_done=5)
    checkpoints.restore(fresh)
    bitwise(values(fresh), values(fit))


# Which checkpoints there are


def test_the_newest_are_kept(tmp_path):
    fit, checkpoints = trainer(), Checkpoints(tmp_path / "runs" / "one", keep=2)
    assert checkpoints.latest is None
    states = {}
    for _ in range(4):
        fit.step(batches(1)[0])
        checkpoints.save(fit)
        states[fit.steps_done] = values(fit)
    assert checkpoints.steps() == [3, 4]
    assert {p.name for p in checkpoints.folder.iterdir()} == {"3", "4"}
    checkpoints.restore(fit, 3)
    bitwise(values(fit), states[3])
    everything = Checkpoints(tmp_path / "all", keep=None)
    for step in range(5):
        fit.load_state(fit.state(), steps_done=step)
        everything.save(fit)
    assert everything.steps() == [0, 1, 2, 3, 4]


def test_what_is_not_there_is_said(tmp_path):
    fit, checkpoints = trainer(), Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="there is no checkpoint in .* to restore"):
        checkpoints.restore(fit)
    checkpoints.save(fit)
    with pytest.raises(CheckpointError, match=r"no step 12 in .*, only \[0\]"):
        checkpoints.restore(fit, 12)
    with pytest.raises(CheckpointError, match="0 exists. Save each step once"):
        checkpoints.save(fit)
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Checkpoints(tmp_path, keep=0)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CheckpointError, match="cannot write"):
        Checkpoints(tmp_path / "file" / "runs").save(trainer())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((1, 2), "would not come back as it is"),
        ({1: "one"}, "would not come back as it is"),
        ({"at": np.zeros(2)}, "is no JSON"),
        ({"__bytes__": "AA=="}, "would not come back as it is"),
        (float("nan"), "would not come back as it is"),
    ],
)
def test_extra_that_would_not_come_back_is_refused(tmp_path, extra, message):
    with pytest.raises(CheckpointError, match=message):
        Checkpoints(tmp_path).save(trainer(), extra=extra)
    assert Checkpoints(tmp_path).latest is None


# Wrong and damaged ones


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(trainer())
    wide = Net(rngs=nnx.Rngs(0))
    wide.head = nn.Linear(8, 7, rngs=nnx.Rngs(0))
    others = {
        r"differs     params/head.bias: float32\(5,\) in .*, float32\(7,\) in the tr": trainer(
            wide
        ),
        r"differs     params/head.bias: float32\(5,\) in .*, bfloat16\(5,\) in": trainer(
            Net(param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        ),
        r"missing     frozen/encoder.fc.bias(.|\n)*unexpected  params/encoder.fc": trainer(
            frozen_encoder()
        ),
        r"missing     optimizer/slots.momentum_buffer(.|\n)*unexpected  opt.*exp_avg": trainer(
            tx=optim.SGD(momentum=0.9)
        ),
    }
    for message, fit in others.items():
        before = values(fit)
        with pytest.raises(CheckpointError, match=message):
            checkpoints.restore(fit)
        bitwise(values(fit), before)
        assert fit.steps_done == 0


def flipped(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def shortened(path: Path, place: float) -> None:
    path.write_bytes(path.read_bytes()[: int(place * path.stat().st_size)])


def gone(path: Path, place: float) -> None:
    path.unlink()


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def refusal(folder: Path, fit: Trainer) -> str:
    """Restore, and return the error there was."""
    try:
        assert Checkpoints(folder).restore(fit) == {"drawn": 1}
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_damage_is_noticed_or_harmless(tmp_path, monkeypatch):
    """Whatever happens to any file: an error, or exactly the state that was saved."""
    # when one array cannot be read, orbax leaves the coroutines of the others behind
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    fit = trainer(tx=optim.SGD(momentum=0.9))
    fit.step(batches(1)[0])
    Checkpoints(tmp_path / "good").save(fit, extra={"drawn": 1})
    want, noticed = values(fit), set()
    other = trainer(tx=optim.SGD(momentum=0.9))
    blank, untouched = trainer(tx=optim.SGD(momentum=0.9)), values(other)
    for name in files(tmp_path / "good"):
        for harm in (flipped, shortened, gone):
            for place in (0.0, 0.4, 0.6, 0.99) if harm is flipped else (0.5,):
                bad = tmp_path / "bad"
                shutil.copytree(tmp_path / "good", bad)
                harm(bad / name, place)
                if error := refusal(bad, other):
                    assert "is damaged" in error
                    noticed.add(name)
                    bitwise(values(other), untouched)
                else:
                    bitwise(values(other), want)
                    other.load_state(blank.state(), steps_done=0)
                shutil.rmtree(bad)
    gc.collect()
    assert {"1/meta/metadata", "1/arrays/manifest.ocdbt"} <= noticed
    assert [name for name in noticed if "/d/" in name]


def test_arrays_that_were_exchanged_are_noticed(tmp_path):
    fit = trainer()
    Checkpoints(tmp_path / "one").save(fit)
    fit.load_state({**fit.state(), "params/head.bias": jnp.ones(5)}, steps_done=0)
    Checkpoints(tmp_path / "two").save(fit)
    shutil.rmtree(tmp_path / "one" / "0" / "arrays")
    shutil.copytree(tmp_path / "two" / "0" / "arrays", tmp_path / "one" / "0" / "arrays")
    with pytest.raises(CheckpointError, match=r"checksums of \['params/head.bias'\] do not match"):
        Checkpoints(tmp_path / "one").restore(fit)


def test_what_a_killed_process_left_is_no_checkpoint_and_is_swept(tmp_path):
    fit, checkpoints = trainer(), Checkpoints(tmp_path)
    checkpoints.save(fit)
    shutil.copytree(tmp_path / "0", tmp_path / "5.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "0", tmp_path / ".deleted-4")
    assert checkpoints.steps() == [0]
    fit.step(batches(1)[0])
    checkpoints.save(fit)
    assert {p.name for p in tmp_path.iterdir()} == {"0", "1"}


# Kill -9


def kill(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parity_tests.train.killed", str(folder), *args]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_fifty_kills_leave_the_last_checkpoint_readable(tmp_path):
    done = kill(tmp_path, "50", "0")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert not seen["parent_started_jax"]
    assert seen["interrupted"] >= 10  # so many kills came in the middle of a save
    assert seen["saved"] >= 20


def test_the_kill_test_can_fail(tmp_path):
    done = kill(tmp_path, "30", "0", "careless")
    assert done.returncode == 1
    assert "could not restore what the one before it left" in done.stderr
