"""The levels of equality, each as a function from a pair of models to rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import ml_dtypes
import numpy as np
import torch
from flax import nnx

from fluxmod import convert
from fluxmod.convert._source import as_numpy
from fluxmod.nn import Axes

from ._copies import copied
from ._flax import run_flax
from ._modules import called_otherwise, in_place_rows, module_rows
from ._randomness import randomness_rows
from ._run import FAULTS, Run, cotangents, fault_text
from ._torch import run_torch
from ._training import training_rows
from ._trees import map_leaves
from .compare import Row, precision_rows, semantic_rows
from .criteria import CRITERIA
from .options import Options

__all__ = ["Pair", "given_rows", "structure_rows"]


def structure_rows(torch_module: torch.nn.Module, flax_model: nnx.Module) -> list[Row]:
    """L0: every key has its leaf, and the weights come back bit for bit."""
    plan = convert.plan(torch_module, flax_model)
    rows = [Row("L0", "given weights", "keys", 0.0, 0.0, plan.complete, _one_line(plan))]
    if not plan.complete:
        return rows
    ours = nnx.clone(flax_model)
    convert.apply(convert.plan(torch_module, ours))
    back = convert.to_torch(ours)
    state = torch_module.state_dict()
    theirs = {k: as_numpy(v) for k, v in state.items() if isinstance(v, torch.Tensor)}
    different = [k for k, v in theirs.items() if not _same_bits(v, back.get(k))]
    note = f"differ: {', '.join(different)}" if different else f"{len(theirs)} keys"
    order = list(back) == list(theirs)
    rows.append(Row("L0", "given weights", "round trip", len(different), 0.0, not different, note))
    rows.append(Row("L0", "given weights", "order of keys", float(not order), 0.0, order))
    held = convert.to_torch(flax_model)
    unequal = [k for k, v in theirs.items() if not _same_bits(v, held.get(k))]
    for key in unequal:
        note = "the Flax model holds another value; load the weights first"
        path = key.rpartition(".")[0]
        rows.append(Row("L0", "given weights", key, 1.0, 0.0, False, note, path))
    if not unequal:
        rows.append(Row("L0", "given weights", "weights held", 0.0, 0.0, True))
    return rows


def _one_line(plan: convert.Plan) -> str:
    return plan.text().replace("\n", "; ") if not plan.complete else f"{len(plan.matched)} matched"


def _same_bits(a: np.ndarray, b: np.ndarray | None) -> bool:
    return (
        b is not None and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    )


def given_rows(
    torch_module: torch.nn.Module,
    flax_model: nnx.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    axes: Axes,
    options: Options,
) -> list[Row]:
    """One evaluation forward in float64 at the weights given: the certificate speaks of them."""
    if "L1" not in options.levels:
        return []
    theirs = run_torch(
        torch_module, args, kwargs, dtype=torch.float64, seed=options.seed, training=False
    )
    ours = _try_flax(flax_model, args, kwargs, np.float64, False, axes, theirs, options.seed)
    if isinstance(ours, str):
        return [_failed("L1", "given weights", ours)]
    outputs = Run(theirs.outputs, notes=theirs.notes)
    return semantic_rows(outputs, Run(ours.outputs), "given weights")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two float32 models with the same random weights, ready to be compared at every level."""

    torch_module: torch.nn.Module
    flax_model: nnx.Module
    axes: Axes
    options: Options

    def rows(self, batches: list[tuple[Any, Any]]) -> list[Row]:
        """Run the levels asked for."""
        rows: list[Row] = []
        levels = self.options.levels
        drawn = 0
        for training in (True, False):
            for index, (args, kwargs) in enumerate(batches):
                new, masks = self._semantics(args, kwargs, training, first=index == 0)
                rows, drawn = rows + new, max(drawn, masks)
        if "L4" in levels:
            rows += training_rows(
                self.torch_module, self.flax_model, *batches[0], self.axes, self.options
            )
        if "L5" in levels:
            trained = [r for r in rows if r.level == "L1" and r.where.startswith("train")]
            rows += randomness_rows(self.flax_model, drawn, trained)
        return rows

    def _semantics(
        self, args: Any, kwargs: Any, training: bool, *, first: bool
    ) -> tuple[list[Row], int]:
        """L1, and at the first batch L2, L3 and every submodule, against one float64 truth.

        Also how many masks torch drew.
        """
        options = self.options
        where = f"{'train' if training else 'eval'}, batch {_batch(args, kwargs)}"
        truth = run_torch(
            self.torch_module,
            args,
            kwargs,
            dtype=torch.float64,
            seed=options.seed,
            training=training,
            record_calls=first and options.per_module,
        )
        rows: list[Row] = []
        if "L1" in options.levels:
            ours = self._flax(args, kwargs, np.float64, training, truth)
            if isinstance(ours, str):
                rows.append(_failed("L1", where, ours))
            else:
                rows += semantic_rows(truth, ours, where)
        if first and options.per_module and "L1" in options.levels:
            alone = module_rows(self.torch_module, self.flax_model, truth.calls, where, options)
            failing = [any(row.passed is False for row in part) for part in (rows, alone)]
            if failing == [True, False]:
                alone += in_place_rows(self.flax_model, args, kwargs, self.axes, truth, where)
            if failing == [False, True]:
                alone = called_otherwise(
                    alone, self.flax_model, args, kwargs, self.axes, truth, where
                )
            rows += alone
        if first and "L2" in options.levels:
            rows += self._precision(args, kwargs, training, truth, where)
        if first and ("L3" in options.levels or options.device == "gpu"):
            rows += self._accelerator(args, kwargs, training, truth, where)
        if first and not training and "L6" in options.levels:
            rows += self._half(args, kwargs, where)
        return rows, len(truth.masks)

    def _precision(
        self, args: Any, kwargs: Any, training: bool, truth: Run, where: str
    ) -> list[Row]:
        theirs = self._torch32(args, kwargs, training, truth)
        ours = self._flax(args, kwargs, np.float32, training, truth, theirs.masks)
        if isinstance(ours, str):
            return [_failed("L2", where, ours)]
        return precision_rows(truth, theirs, ours, where)

    def _accelerator(
        self, args: Any, kwargs: Any, training: bool, truth: Run, where: str
    ) -> list[Row]:
        devices = accelerators()
        if not devices:
            note = "no GPU: jax sees only the CPU"
            return [Row("L3", where, "outputs", 0.0, 0.0, None, note)]
        theirs = self._torch32(args, kwargs, training, truth)
        ours = self._flax(args, kwargs, np.float32, training, truth, theirs.masks, devices[0])
        if isinstance(ours, str):
            return [_failed("L3", where, ours)]
        return precision_rows(truth, theirs, ours, where, level="L3")

    def _half(self, args: Any, kwargs: Any, where: str) -> list[Row]:
        """L6: outputs of both sides in bfloat16 against the truth at the same rounded weights.

        Gradients are left out: at 8 bits a value near a kink falls on the other side of it.
        """
        rounded = copied(self.torch_module).bfloat16()
        inputs, named = map_leaves((args, dict(kwargs)), _rounded)
        settings: dict[str, Any] = {"seed": self.options.seed, "training": False}
        truth = run_torch(rounded, inputs, named, dtype=torch.float64, **settings)
        theirs = run_torch(rounded, inputs, named, dtype=torch.bfloat16, **settings)
        ours = self._flax(inputs, named, ml_dtypes.bfloat16, False, truth)
        if isinstance(ours, str):
            return [_failed("L6", where, ours)]
        sides = [Run(side.outputs) for side in (truth, theirs, ours)]
        return precision_rows(sides[0], sides[1], sides[2], where, level="L6", eps=2**-8)

    def _torch32(self, args: Any, kwargs: Any, training: bool, truth: Run) -> Run:
        return run_torch(
            self.torch_module,
            args,
            kwargs,
            dtype=torch.float32,
            seed=self.options.seed,
            training=training,
            cotangent=cotangents(truth.outputs, self.options.seed),
        )

    def _flax(
        self,
        args: Any,
        kwargs: Any,
        dtype: Any,
        training: bool,
        truth: Run,
        masks: list[np.ndarray] | None = None,
        device: jax.Device | None = None,
    ) -> Run | str:
        return _try_flax(
            self.flax_model,
            args,
            kwargs,
            dtype,
            training,
            self.axes,
            truth,
            self.options.seed,
            masks=masks,
            device=device,
        )


def _rounded(value: Any) -> Any:
    """Round float arrays to bfloat16 and keep them as float32."""
    array = as_numpy(value)
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def accelerators() -> list[jax.Device]:
    """Return the GPUs that JAX can use."""
    return [device for device in jax.devices() if device.platform in ("gpu", "cuda", "rocm")]


def _try_flax(
    model: nnx.Module,
    args: Any,
    kwargs: Any,
    dtype: Any,
    training: bool,
    axes: Axes,
    truth: Run,
    seed: int,
    masks: list[np.ndarray] | None = None,
    device: jax.Device | None = None,
) -> Run | str:
    """Run the Flax side; a model that cannot run is a finding, returned as text."""
    try:
        return run_flax(
            model,
            args,
            kwargs,
            dtype=dtype,
            training=training,
            axes=axes,
            masks=truth.masks if masks is None else masks,
            cotangent=cotangents(truth.outputs, seed),
            device=device,
        )
    except FAULTS as error:
        return fault_text(error)


def _failed(level: str, where: str, message: str) -> Row:
    first = message.strip().splitlines()[0]
    return Row(level, where, "the call", float("inf"), CRITERIA[level].limit, False, first)


def _batch(args: Any, kwargs: Any) -> int | str:
    first: Any = next(iter([*args, *kwargs.values()]), None)
    return first.shape[0] if getattr(first, "ndim", 0) else "-"
