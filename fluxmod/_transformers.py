"""What models of transformers need to be told while they are traced or compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

__all__ = ["as_eager", "cast_to_their_own", "without_cache"]

_COMPILING = "is_torchdynamo_compiling"
_QUESTIONS = (_COMPILING, "is_torchdynamo_exporting", "is_tracing")
_MASKS = ("transformers.masking_utils", "transformers.modeling_attn_mask_utils")


@contextmanager
def as_eager() -> Iterator[bool]:
    """Let transformers make its masks as if nobody traced; whether it is there to be told.

    It drops a mask without zeros where it runs eagerly and keeps it where it is traced, some models
    make one of ones only where they run eagerly, and some work with the first or the second alone.
    """
    questions = [
        (owner, question)
        for name, owner in list(sys.modules.items())
        for question in _QUESTIONS
        if name in _MASKS or (name.startswith("transformers.models.") and question == _COMPILING)
        if question in vars(owner)
    ]
    with ExitStack() as stack:
        for owner, question in questions:
            stack.enter_context(mock.patch.object(owner, question, return_value=False))
        yield bool(questions)


@contextmanager
def cast_to_their_own() -> Iterator[None]:
    """Let a forward cast a module to the dtype that it has, which does nothing and is no operator.

    Switch's router does; while torch traces, the weights cannot be put in place of themselves.
    """
    import torch

    apply = torch.nn.Module._apply

    def cast(module: Any, function: Any, recurse: bool = True) -> Any:
        tensors = [*module.parameters(), *module.buffers()]
        pairs = [(tensor, function(tensor)) for tensor in tensors]
        if all((old.dtype, old.device) == (new.dtype, new.device) for old, new in pairs):
            return module
        return apply(module, function, recurse)

    with mock.patch.object(torch.nn.Module, "_apply", cast):
        yield


@contextmanager
def without_cache(module: Any) -> Iterator[None]:
    """Let a model leave out its cache of keys and values, an object that no loss needs.

    Its configurations are ``use_cache=True`` unless somebody says otherwise; here they say False,
    and afterwards what they said before. An argument ``use_cache=True`` of the call still counts.
    """
    with ExitStack() as stack:
        for config in _configs(module):
            if getattr(config, "use_cache", False):
                stack.enter_context(mock.patch.object(config, "use_cache", False))
        yield


def _configs(module: Any) -> list[Any]:
    """The configurations of transformers that a model's modules hold, those inside them too."""
    found: dict[int, Any] = {}
    rest = [vars(part).get("config") for part in module.modules()]
    while rest:
        config = rest.pop()
        if hasattr(config, "to_dict") and id(config) not in found:
            found[id(config)] = config
            rest += list(getattr(config, "__dict__", {}).values())
    return list(found.values())
