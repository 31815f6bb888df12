"""An error of another process, as plain text: an exception might not survive the transfer."""

import traceback
from dataclasses import dataclass
from typing import NoReturn, Self

from m2hf import errors
from m2hf.shortage import resource_error


@dataclass(frozen=True)
class WorkerError:
    """kind: the class of the m2hf error that it was; "" for any other, whose message is the
    traceback."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """From an exception that is being handled."""
        own = error if isinstance(error, errors.M2hfError) else resource_error(error, "extraction")
        if own is not None:
            return cls(type(own).__name__, str(own))
        return cls("", traceback.format_exc())

    def rethrow(self) -> NoReturn:
        """Raise it in this process: as the m2hf error it was, else with its traceback as text."""
        own_class = getattr(errors, self.kind, None)
        raise (
            own_class(self.message) if own_class else RuntimeError(f"in a worker:\n{self.message}")
        )
