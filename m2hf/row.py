"""A row of a manifest: one video, with its captions."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from m2hf.errors import ManifestError
from m2hf.plain_data import json_object, shown

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_LONGEST_S = 1e9  # about 30 years: later times are a mistake


# Unicode categories, and bidirectional controls, that an id can't have: they would break or
# reorder the lines that it is printed in.
_NOT_IN_ID = {"Cc", "Cs", "Zl", "Zp"}
_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Row(BaseModel):
    """One video: `path` is relative to the media root; `start`/`end` in seconds select a part."""

    # As of a `Section`, whose merging of defaults a row has no use for: there are millions.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: str = Field(min_length=1, max_length=512)
    path: str = Field(min_length=1)
    split: Split
    captions: tuple[str, ...] = ()
    start: float | None = Field(default=None, ge=0, le=_LONGEST_S, strict=True)
    end: float | None = Field(default=None, gt=0, le=_LONGEST_S, strict=True)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    @field_validator("id")
    @classmethod
    def _printable(cls, value: str) -> str:
        plain = value.isascii() and value.isprintable()
        if value != value.strip() or not (plain or all(map(_allowed_in_id, value))):
            raise ValueError(
                "an id has printable characters, spaces and joiners only, and no leading or "
                "trailing space"
            )
        return value

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        if value.startswith("/") or ".." in value.split("/") or "\0" in value:
            raise ValueError("a path is relative to the media root and stays inside it")
        return value

    @field_validator("captions")
    @classmethod
    def _text(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in caption for caption in value):
            raise ValueError("a caption has a NUL character")
        return value

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError("end must be after start")
        return self


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption as an item of its own: id is `<video id>#<index>`."""

    id: str
    video: str
    text: str


def captions_of(rows: Iterable[Row]) -> Iterator[Caption]:
    """All captions of `rows` as items, in row order."""
    for row in rows:
        for index, text in enumerate(row.captions):
            yield Caption(f"{row.id}#{index}", row.id, text)


def read_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    """The rows in the lines of a file, in which bytes that aren't UTF-8 are surrogates; raises
    ManifestError naming file and line of what is wrong."""
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise ManifestError(f"{where}: not UTF-8; save the file as UTF-8 text") from error
        if not line.strip():
            continue
        data = json_object(line, where, ManifestError)
        try:
            yield Row.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = shown(".".join(map(str, first["loc"])) or "row").strip("'")
            raise ManifestError(f"{where}: {key}: {first['msg']}") from error


def _allowed_in_id(character: str) -> bool:
    return unicodedata.category(character) not in _NOT_IN_ID and character not in _BIDI_CONTROLS
