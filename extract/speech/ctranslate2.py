"""Read a CTranslate2 model file as plain arrays, without CTranslate2.

Layout (binary version 6, little-endian): version u32, specification name, revision u32, then
variables (name, rank u8, dimensions u32, type u8, bytes u32, data), then aliases (name, target).
A string is its length with the closing NUL as u16, then its bytes.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VERSION = 6
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


@dataclass(frozen=True)
class Ctranslate2Model:
    """The name of the model's specification, and its variables by name (aliases resolved)."""

    specification: str
    variables: dict[str, NDArray[Any]]


def read_model(data: bytes) -> Ctranslate2Model:
    """Parse a model file; raises ValueError where it is not one or is cut short."""
    try:
        return _parse(_Cursor(data))
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not a CTranslate2 model file of version {_VERSION}: {error}") from error


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, kind: str) -> int:
        value: int = struct.unpack_from(f"<{kind}", self._data, self._at)[0]
        self._at += struct.calcsize(f"<{kind}")
        return value

    def string(self) -> str:
        length = self.number("H")
        return self.take(length)[:-1].decode()

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise ValueError("the file is cut short")
        self._at += count
        return part


def _parse(cursor: _Cursor) -> Ctranslate2Model:
    version = cursor.number("I")
    if version != _VERSION:
        raise ValueError(f"binary version {version}")
    specification = cursor.string()
    cursor.number("I")  # revision of the specification
    variables: dict[str, NDArray[Any]] = {}
    for _ in range(cursor.number("I")):
        name = cursor.string()
        shape = [cursor.number("I") for _ in range(cursor.number("B"))]
        kind = _TYPES[cursor.number("B")]
        data = cursor.take(cursor.number("I"))
        variables[name] = np.frombuffer(data, kind).reshape(shape)
    for _ in range(cursor.number("I")):
        alias = cursor.string()
        variables[alias] = variables[cursor.string()]
    return Ctranslate2Model(specification, variables)
