"""Load a checkpoint into a network: a file that doesn't fit is one clear line, never a guess.

torch, safetensors, transformers and open_clip raise errors of any class for a file that is cut
short or belongs to another network. And a tensor that is missing may pass unnoticed: it keeps its
random initial values. Here each of these cases is a ResourceError that names the file.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from m2hf.errors import M2hfError, ResourceError
from m2hf.extract.weights.weight import WeightFile
from m2hf.plain_data import json_value, shown

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


@contextmanager
def loading_folder(files: Mapping[str, WeightFile], kind: str) -> Iterator[Path]:
    """Yield a folder for a library that reads a model by its folder: it has links to `files`, by
    their paths in it, and nothing else. Raises ResourceError as `loading`, which names the first of
    `files`.
    """
    with tempfile.TemporaryDirectory(prefix="m2hf-") as name, ExitStack() as opened:
        folder = Path(name)
        for inside, file in files.items():
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            (folder / inside).symlink_to(file.paths[0].absolute())
        for file in reversed([*files.values()]):  # the first is the innermost, which names itself
            opened.enter_context(loading(file, kind))
        yield folder


def read_json(file: WeightFile) -> Any:
    """The value of a JSON file; raises ResourceError for a file that isn't UTF-8 or JSON."""
    where = f"weights {file.paths[0]}"
    try:
        text = file.read().decode()
    except UnicodeDecodeError as error:
        raise ResourceError(f"{where}: not UTF-8 (byte {error.start})") from error
    return json_value(text, where, ResourceError)


def read_object(file: WeightFile) -> dict[str, Any]:
    """The object of a JSON file; raises ResourceError as `read_json`, and for another value."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise ResourceError(f"weights {file.paths[0]}: expected a JSON object, got {shown(value)}")
    return value


def require_sizes(file: WeightFile, values: Mapping[str, Any], most: Mapping[str, int]) -> None:
    """Raise ResourceError where a number of a configuration file that becomes layers or arrays is
    not 1 to that of `most`; one that is absent has the library's default."""
    for key, limit in most.items():
        value = values.get(key, 1)
        if type(value) is not int or not 1 <= value <= limit:
            raise ResourceError(
                f"weights {file.paths[0]}: {key} is {shown(value)}, expected 1 to {limit}"
            )


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
