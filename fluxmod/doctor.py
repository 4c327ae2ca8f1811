"""What this installation is: versions, devices, precision switches, torch's build.

torch is not needed, and no fault of a package stops the diagnosis: it is listed among the problems.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from types import ModuleType
from typing import Any, TypeVar

from fluxmod import __version__

__all__ = ["Diagnosis", "JaxState", "Package", "TorchState", "cxx_compiler", "diagnose"]

State = TypeVar("State")

# Distribution -> the extra that installs it; None: fluxmod always brings it.
PACKAGES: dict[str, str | None] = {
    "jax": None,
    "jaxlib": None,
    "flax": None,
    "optax": None,
    "orbax-checkpoint": None,
    "numpy": None,
    "safetensors": None,
    "torch": "torch",
    "grain": "data",
    "scikit-learn": "data",
}


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution, or one that is missing (``version`` is None)."""

    name: str
    version: str | None
    extra: str | None

    def text(self) -> str:
        """Return the version, or the command that installs the package."""
        if self.version is not None:
            return self.version
        target = f"fluxmod[{self.extra}]" if self.extra else "fluxmod"
        return f"missing; pip install '{target}'"


@dataclass(frozen=True, slots=True)
class JaxState:
    """JAX's devices and the switches that change its numbers."""

    backend: str
    devices: tuple[str, ...]
    x64: bool
    matmul_precision: str
    xla_flags: str


@dataclass(frozen=True, slots=True)
class TorchState:
    """torch's build, devices and the switches that change its numbers."""

    build: str
    devices: tuple[str, ...]
    threads: int
    float32_matmul_precision: str
    tf32_matmul: str
    tf32_cudnn: str
    deterministic: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What :func:`diagnose` found; ``problems`` is empty for a sound installation."""

    fluxmod: str
    python: str
    platform: str
    cores: int
    packages: tuple[Package, ...]
    jax: JaxState | None
    torch: TorchState | None
    cxx_compiler: str | None
    problems: tuple[str, ...]

    def text(self) -> str:
        """Return the diagnosis as lines of ``name  value``, one empty line between the parts."""
        parts = [part for part in _parts(self) if part]
        width = max(len(name) for part in parts for name, _ in part)
        return "\n\n".join(
            "\n".join(f"{name:<{width}}  {value}" for name, value in part) for part in parts
        )

    def to_json(self) -> str:
        """Return the diagnosis as a JSON object with the attributes' names as keys."""
        return json.dumps(asdict(self), indent=2)


def diagnose() -> Diagnosis:
    """Look at the running interpreter; torch and jax are imported where they are installed.

    >>> found = diagnose()
    >>> found.jax.x64, found.problems
    (False, ())
    """
    packages = tuple(Package(name, _version(name), extra) for name, extra in PACKAGES.items())
    problems = [f"{p.name}: {p.text()}" for p in packages if p.version is None and p.extra is None]
    return Diagnosis(
        fluxmod=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        cores=os.cpu_count() or 1,
        packages=packages,
        jax=_state("jax", _jax_state, problems),
        torch=_state("torch", _torch_state, problems),
        cxx_compiler=cxx_compiler(),
        problems=tuple(problems),
    )


def cxx_compiler() -> str | None:
    """Return the path of the C++ compiler that ``torch.compile`` would call on the CPU, or None.

    As torch does, ``CXX`` is taken where it is set, else the platform's usual compiler.
    """
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _state(name: str, read: Callable[[ModuleType], State], problems: list[str]) -> State | None:
    """Import ``name`` and read its state; what goes wrong becomes a line of ``problems``."""
    try:
        return read(import_module(name))
    except Exception as error:  # a broken driver or library can raise anything at all
        if not (isinstance(error, ModuleNotFoundError) and error.name == name):  # not just missing
            problems.append(f"{name} does not work: {type(error).__name__}: {error}")
        return None


def _jax_state(jax: ModuleType) -> JaxState:
    config: Any = jax.config
    return JaxState(
        backend=jax.default_backend(),
        devices=_counted(f"{d.platform}: {d.device_kind}" for d in jax.devices()),
        x64=bool(config.jax_enable_x64),
        matmul_precision=str(config.jax_default_matmul_precision or "default"),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
    )


def _torch_state(torch: ModuleType) -> TorchState:
    cuda = torch.cuda
    devices = (cuda.get_device_name(i) for i in range(cuda.device_count()))
    return TorchState(
        build=_torch_build(torch),
        devices=_counted(f"cuda: {name}" for name in devices) or ("cpu",),
        threads=torch.get_num_threads(),
        float32_matmul_precision=torch.get_float32_matmul_precision(),
        tf32_matmul=torch.backends.cuda.matmul.fp32_precision,
        tf32_cudnn=torch.backends.cudnn.conv.fp32_precision,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )


def _torch_build(torch: ModuleType) -> str:
    if torch.version.cuda is not None:
        return f"CUDA {torch.version.cuda}"
    if torch.version.hip is not None:
        return f"ROCm {torch.version.hip}"
    return "CPU"


def _counted(names: Iterator[str]) -> tuple[str, ...]:
    """Fold equal names: ``cpu: cpu`` eight times becomes ``8 x cpu: cpu``."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return tuple(name if n == 1 else f"{n} x {name}" for name, n in counts.items())


def _parts(found: Diagnosis) -> Iterator[list[tuple[str, str]]]:
    """Yield the rows of each part of the text."""
    yield [
        ("fluxmod", found.fluxmod),
        ("python", found.python),
        ("platform", found.platform),
        ("cores", str(found.cores)),
    ]
    yield [(package.name, package.text()) for package in found.packages]
    if (jax := found.jax) is not None:
        yield [
            ("jax backend", jax.backend),
            ("jax devices", ", ".join(jax.devices)),
            ("jax x64", "on" if jax.x64 else "off"),
            ("jax matmul precision", jax.matmul_precision),
            ("XLA_FLAGS", jax.xla_flags or "not set"),
        ]
    if (torch := found.torch) is not None:
        yield [
            ("torch build", torch.build),
            ("torch devices", ", ".join(torch.devices)),
            ("torch threads", str(torch.threads)),
            ("torch float32 matmul", torch.float32_matmul_precision),
            ("torch TF32 matmul, cudnn", f"{torch.tf32_matmul}, {torch.tf32_cudnn}"),
            ("torch deterministic", "on" if torch.deterministic else "off"),
            ("C++ for torch.compile", found.cxx_compiler or "missing; only torch.compile needs it"),
        ]
    yield [("problem", problem) for problem in found.problems]
