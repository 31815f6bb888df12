"""Load a checkpoint into a network: a file that doesn't fit is one clear line, never a guess.

torch, safetensors, transformers and open_clip raise errors of any class for a file that is cut
short or belongs to another network. And a tensor that is missing may pass unnoticed: it keeps its
random initial values. Here each of these cases is a ResourceError that names the file.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m2hf.errors import M2hfError, ResourceError
from m2hf.extract.weights.weight import WeightFile

_MAX_REASON = 300  # characters: torch lists every missing tensor in one line


@contextmanager
def loading(file: WeightFile, kind: str) -> Iterator[Path]:
    """Yield the path of `file` to be loaded inside the `with`; `kind` says what it should be.

    Raises ResourceError "weights PATH: damaged, or not KIND: REASON" for any error inside, and
    where the file is no longer what was hashed. Errors of m2hf pass through unchanged.
    """
    path = file.paths[0]
    try:
        yield path
    except M2hfError:
        raise
    except Exception as error:  # the libraries document no common class
        raise ResourceError(f"weights {path}: damaged, or not {kind}: {_reason(error)}") from error
    file.confirm()


def load_tensors(network: Any, tensors: Any) -> None:
    """Copy a state dict into a torch module.

    Raises ValueError that names the first tensor that is missing, unexpected or of another shape.
    """
    if not isinstance(tensors, Mapping):
        raise ValueError(f"expected a state dict, found a {type(tensors).__name__}")
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except RuntimeError:
        require_shapes(network.state_dict(), tensors)
        raise
    require_tensors(missing, unexpected)


def require_tensors(missing: Iterable[str], unexpected: Iterable[str] = ()) -> None:
    """Raise ValueError that names the first tensor in `missing`, else in `unexpected`."""
    for name in sorted(missing):
        raise ValueError(f"it lacks {name}")
    for name in sorted(unexpected):
        raise ValueError(f"unexpected tensor {name}")


def require_shapes(expected: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Raise ValueError that names the first of `tensors` whose shape is not the expected one."""
    for name, tensor in expected.items():
        shape = getattr(tensors.get(name), "shape", tensor.shape)
        if shape != tensor.shape:
            raise ValueError(f"{name} is {[*shape]}, expected {[*tensor.shape]}")


def _reason(error: Exception) -> str:
    """The message of a library's error as one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KeyError):
        return f"there is no {error} in it"
    if not lines:
        return type(error).__name__
    # torch: "Error(s) in loading state_dict for Model:", and what is wrong in the next line
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."
