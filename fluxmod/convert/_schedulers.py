"""The twin of a live torch scheduler, for one of the groups of its optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fluxmod._errors import ConvertError
from fluxmod.optim import lr_scheduler, swa_utils

from ._torch_groups import plain

__all__ = ["scheduler_from_torch"]


def scheduler_from_torch(scheduler: Any, group: int = 0, *, total_steps: int | None = None) -> Any:
    """Return the scheduler of ``fluxmod.optim.lr_scheduler`` that a live one of torch is.

    It starts where torch's started: torch's ``last_epoch`` is the count to evaluate it at. Of
    ``ReduceLROnPlateau`` the result starts from torch's rate of now; ``load_state_dict`` takes its
    counters.

    Args:
        scheduler: any scheduler of ``torch.optim.lr_scheduler``, or ``SWALR``.
        group: which parameter group of its optimizer.
        total_steps: for ChainedScheduler, LambdaLR and MultiplicativeLR, which say when they need
            it.

    Raises:
        ConvertError: another class, or arguments that cannot be told from the live object.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    >>> scheduler_from_torch(torch.optim.lr_scheduler.StepLR(optimizer, step_size=3))
    StepLR(lr=0.5, step_size=3, gamma=0.1)
    """
    name = type(scheduler).__name__
    if name not in _ARGUMENTS:
        raise ConvertError(
            f"convert: {name} is none of the schedulers known here ({', '.join(_ARGUMENTS)}). "
            "Write the rate as an optax schedule."
        )
    cls = getattr(swa_utils if name == "SWALR" else lr_scheduler, name)
    arguments = {key: plain(v) for key, v in _ARGUMENTS[name](scheduler, group).items()}
    if total_steps is not None and name in ("ChainedScheduler", "LambdaLR", "MultiplicativeLR"):
        arguments["total_steps"] = total_steps
    return cls(**arguments)


def _named(*names: str) -> Callable[[Any, int], dict[str, Any]]:
    """The rate to start from, and attributes that torch keeps under its arguments' names."""

    def arguments(scheduler: Any, group: int) -> dict[str, Any]:
        own = {name: getattr(scheduler, name) for name in names}
        return {"lr": scheduler.base_lrs[group], **own}

    return arguments


def _lambda(scheduler: Any, group: int) -> dict[str, Any]:
    return {"lr": scheduler.base_lrs[group], "lr_lambda": scheduler.lr_lambdas[group]}


def _milestones(scheduler: Any, group: int) -> dict[str, Any]:
    milestones = tuple(scheduler.milestones.elements())
    return {"lr": scheduler.base_lrs[group], "milestones": milestones, "gamma": scheduler.gamma}


def _cyclic(scheduler: Any, group: int) -> dict[str, Any]:
    up = scheduler.total_size * scheduler.step_ratio
    return {
        "base_lr": scheduler.base_lrs[group],
        "max_lr": scheduler.max_lrs[group],
        "step_size_up": up,
        "step_size_down": scheduler.total_size - up,
        "mode": scheduler.mode,
        "gamma": scheduler.gamma,
        "scale_fn": scheduler._scale_fn_custom,
        "scale_mode": scheduler.scale_mode,
        **_momenta(scheduler, group),
    }


def _one_cycle(scheduler: Any, group: int) -> dict[str, Any]:
    phases, total = scheduler._schedule_phases, scheduler.total_steps
    rates = scheduler.optimizer.param_groups[group]
    # the first phase ends at pct_start * total - 1, which has lost a digit or two of pct_start
    pct = float(f"{(phases[0]['end_step'] + 1) / total:.12g}")
    return {
        "max_lr": rates["max_lr"],
        "total_steps": total,
        "pct_start": pct,
        "anneal_strategy": scheduler._anneal_func_type,
        "div_factor": rates["max_lr"] / rates["initial_lr"],
        "final_div_factor": rates["initial_lr"] / rates["min_lr"],
        "three_phase": len(phases) == 3,
        **_momenta(scheduler, group),
    }


def _momenta(scheduler: Any, group: int) -> dict[str, Any]:
    if not scheduler.cycle_momentum:
        return {"cycle_momentum": False}
    held = scheduler.optimizer.param_groups[group]
    return {name: held[name] for name in ("base_momentum", "max_momentum")}


def _swa(scheduler: Any, group: int) -> dict[str, Any]:
    if scheduler.last_epoch > 0:
        raise ConvertError(
            "convert: a SWALR that has begun does not tell the rate it began with. Convert it "
            "before its first step, or build fluxmod.optim.swa_utils.SWALR with that rate."
        )
    held = scheduler.optimizer.param_groups[group]
    return {
        "lr": held["lr"],
        "swa_lr": held["swa_lr"],
        "anneal_epochs": scheduler.anneal_epochs,
        "anneal_strategy": scheduler._anneal_strategy,
    }


def _parts(scheduler: Any, group: int) -> list[Any]:
    return [scheduler_from_torch(part, group) for part in scheduler._schedulers]


def _sequential(scheduler: Any, group: int) -> dict[str, Any]:
    milestones = tuple(scheduler._milestones)
    return {"schedulers": tuple(_parts(scheduler, group)), "milestones": milestones}


def _chained(scheduler: Any, group: int) -> dict[str, Any]:
    return {"schedulers": tuple(_parts(scheduler, group))}


def _plateau(scheduler: Any, group: int) -> dict[str, Any]:
    names = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "eps")
    own = {name: getattr(scheduler, name) for name in names}
    lr = scheduler.optimizer.param_groups[group]["lr"]
    return {"lr": lr, "min_lr": scheduler.min_lrs[group], **own}


_ARGUMENTS: Mapping[str, Callable[[Any, int], dict[str, Any]]] = {
    "ChainedScheduler": _chained,
    "ConstantLR": _named("factor", "total_iters"),
    "CosineAnnealingLR": _named("T_max", "eta_min"),
    "CosineAnnealingWarmRestarts": _named("T_0", "T_mult", "eta_min"),
    "CyclicLR": _cyclic,
    "ExponentialLR": _named("gamma"),
    "LambdaLR": _lambda,
    "LinearLR": _named("start_factor", "end_factor", "total_iters"),
    "MultiStepLR": _milestones,
    "MultiplicativeLR": _lambda,
    "OneCycleLR": _one_cycle,
    "PolynomialLR": _named("total_iters", "power"),
    "ReduceLROnPlateau": _plateau,
    "SWALR": _swa,
    "SequentialLR": _sequential,
    "StepLR": _named("step_size", "gamma"),
}
