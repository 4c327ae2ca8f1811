"""Every error fluxmod raises on purpose.

    FluxmodError
    +- ConvertError (ValueError)
    |  +- UnmatchedKeysError       keys missing or unexpected
    |  +- LayoutError              a shape that does not fit, or axes in another order
    |  +- DtypeError (TypeError)   a dtype that would be lost or changed
    |  +- FileFormatError          a weight file that is damaged, unsafe or of an unknown kind
    +- ParityError (AssertionError)
    |  +- ReplayError              recorded random masks do not fit the module that replays them
    +- CheckpointError (ValueError)
    +- PortError
    |  +- CaptureError
    |  +- UnsupportedOpError (NotImplementedError)
    +- MissingExtraError (ImportError)

Each class also inherits the builtin that a caller would already catch.
"""

from __future__ import annotations

__all__ = [
    "CaptureError",
    "CheckpointError",
    "ConvertError",
    "DtypeError",
    "FileFormatError",
    "FluxmodError",
    "LayoutError",
    "MissingExtraError",
    "ParityError",
    "PortError",
    "ReplayError",
    "UnmatchedKeysError",
    "UnsupportedOpError",
]


class FluxmodError(Exception):
    """Base of all errors raised by fluxmod."""


class ConvertError(FluxmodError, ValueError):
    """Weights cannot be moved between the frameworks as asked; nothing was moved."""


class UnmatchedKeysError(ConvertError):
    """Keys of the source and leaves of the model do not pair up one to one."""


class LayoutError(ConvertError):
    """An array's shape, or the order of its axes, is not what its place requires."""


class DtypeError(ConvertError, TypeError):
    """A dtype differs from the model's and converting it was not asked for."""


class FileFormatError(ConvertError):
    """A weight file is damaged, holds code, or is of an unknown kind."""


class ParityError(FluxmodError, AssertionError):
    """The two implementations are not equal; the message is the report."""


class ReplayError(ParityError):
    """Recorded random masks do not fit the module that should replay them."""


class CheckpointError(FluxmodError, ValueError):
    """A training checkpoint cannot be written or read as asked."""


class PortError(FluxmodError):
    """A module cannot be turned into Flax source."""


class CaptureError(PortError):
    """torch could not trace the module."""


class UnsupportedOpError(PortError, NotImplementedError):
    """The module uses operators that have no lowering."""


class MissingExtraError(FluxmodError, ImportError):
    """An optional package is needed and not installed."""
