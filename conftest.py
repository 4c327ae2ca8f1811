"""Settings of every test and doctest, made before jax is imported.

Environment variables, so that processes started by a test have them too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent
FAKE_DEVICES = "--xla_force_host_platform_device_count=8"
QUICKLY = "--xla_backend_optimization_level=0"  # XLA's own passes as ever, LLVM's left out
PLATFORMS_GIVEN = os.environ.get("JAX_PLATFORMS")

if FAKE_DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAKE_DEVICES}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"  # lifted again below for --device=gpu
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what torch asks of deterministic cuBLAS calls
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # torch needs a part of the same GPU
# Compiling is most of the suite's time; a compiled program is kept for the next run and the other
# process. JAX_ENABLE_COMPILATION_CACHE=0 goes without.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# Helpers whose asserts should explain themselves; registered before anything imports them.
pytest.register_assert_rewrite("parity_tests.compare", "parity_tests.nn.cases")

hypothesis.settings.register_profile(
    "some", derandomize=True, database=None, deadline=None, max_examples=50
)
hypothesis.settings.register_profile(
    "all", derandomize=True, database=None, deadline=None, max_examples=1000
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fluxmod")
    group.addoption(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="gpu: let jax see its accelerators and run the tests marked gpu (default: cpu)",
    )
    group.addoption(
        "--samples",
        choices=("some", "all"),
        default="some",
        help="all: every sample and 20 times the random examples instead of a subset",
    )


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile(config.getoption("--samples"))
    some = config.getoption("--samples") == "some" and config.getoption("--device") == "cpu"
    if some and QUICKLY not in os.environ["XLA_FLAGS"]:
        # half the time to compile; ``--samples=all`` compiles as users do
        os.environ["XLA_FLAGS"] += f" {QUICKLY}"
    if config.getoption("--device") == "gpu":
        _show_accelerators()


def _show_accelerators() -> None:
    if PLATFORMS_GIVEN is None:
        del os.environ["JAX_PLATFORMS"]
    else:
        os.environ["JAX_PLATFORMS"] = PLATFORMS_GIVEN
    import jax  # a plugin may have imported it while the variable still said cpu

    jax.config.update("jax_platforms", PLATFORMS_GIVEN)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and (reason := _no_gpu(config)):
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason=reason))


def _no_gpu(config: pytest.Config) -> str | None:
    """Return why tests marked gpu cannot run here, or None where they can."""
    if config.getoption("--device") != "gpu":
        return "needs --device=gpu"
    import jax
    import torch

    try:
        jax.devices("gpu")
    except RuntimeError:
        return f"no GPU for jax, which sees {jax.devices()}"
    return None if torch.cuda.is_available() else "no GPU for torch"


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> str:
    """cpu or gpu, as the command line says."""
    return pytestconfig.getoption("--device")


@pytest.fixture(scope="session", autouse=True)
def _torch_settings(device: str) -> None:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    torch.set_num_threads(1)
    # On a GPU some backward passes have no deterministic form; there torch may only warn.
    torch.use_deterministic_algorithms(True, warn_only=device == "gpu")


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled() -> Iterator[None]:
    """Compiled programs of one module are of no use to the next and take gigabytes in all."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """The test runs with 64-bit types in jax."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_promotion() -> Iterator[None]:
    """In the test, jax refuses to mix dtypes or to add leading axes by itself."""
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
