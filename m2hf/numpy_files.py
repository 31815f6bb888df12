"""Reads .npy and .npz files that may hold anything: plain arrays, or one error. No unpickling."""

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.atomic import raise_if_unreadable
from m2hf.errors import UsageError, first_line
from m2hf.printable import printable

# What numpy raises for a damaged file, or for one of another format than its extension.
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError,
    NotImplementedError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load(path: Path, where: str) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The array of an .npy file, or those of an .npz; raises UsageError, whose message starts with
    `where`, for anything else."""
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except _UNREADABLE as error:
        raise _refused(path, where, error, "numpy.save or numpy.savez") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a member of the zip that is no .npy file
            raise UsageError(f"{where}: {printable(name)} in it is no array; remove it")
    return arrays


def mapped(path: Path, where: str) -> NDArray[Any]:
    """The array of an .npy file, mapped into memory; raises UsageError as `load`."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except _UNREADABLE as error:
        raise _refused(path, where, error, "numpy.save") from error


def _refused(path: Path, where: str, error: Exception, writer: str) -> UsageError:
    raise_if_unreadable(path, error)
    if isinstance(error, OSError) and error.strerror:
        return UsageError(f"{where}: {error.strerror}")
    return UsageError(
        f"{where}: not a readable array file ({printable(first_line(error))}); write plain arrays, "
        f"no objects, with {writer}"
    )
