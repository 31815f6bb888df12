"""A dataset: a card (TOML) and rows (JSONL) in one folder.

MANIFEST/card.toml     name, version, source, licence, protocol, declared counts, flags
MANIFEST/rows.jsonl    one video a line: id, path, split, captions, start, end, sha256

The rows hold the queries. Evaluation scores every caption of a split against every video of it
under any protocol; the protocol only constrains the rows, and `check` verifies that:

one_caption     a test video has one caption; a training video may have more
multi_caption   every caption of a test video is a query; for video-to-text the best-ranked of
                a video's captions counts (m2hf.fuse.scores.metrics)
paragraph       a video has one caption: its sentences in time order, joined by a space
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, get_args

import tomli_w
from pydantic import Field, ValidationError, field_validator, model_validator

from m2hf.atomic import atomic_text, raise_if_unreadable
from m2hf.config import Section, parse
from m2hf.errors import ManifestError
from m2hf.keys import canonical_json, sha256_hex
from m2hf.plain_data import json_object, read_text, shown, toml

Protocol = Literal["one_caption", "multi_caption", "paragraph"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_ONE_CAPTION_IN: dict[Protocol, tuple[Split, ...]] = {
    "one_caption": ("test",),
    "multi_caption": (),
    "paragraph": SPLITS,
}
_LONGEST_S = 1e9  # about 30 years: later times are a mistake


# Unicode categories, and bidirectional controls, that an id can't have: they would break or
# reorder the lines that it is printed in.
_NOT_IN_ID = {"Cc", "Cs", "Zl", "Zp"}
_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class SplitCount(Section):
    """Numbers of videos and captions of a split."""

    videos: int = Field(ge=0, strict=True)
    captions: int = Field(ge=0, strict=True)


class Card(Section):
    """The dataset card: name, source, protocol and declared counts.

    protocol: which captions are queries; splits: declared counts, which `check` compares;
    benchmark: the paper's name of the benchmark, where the dataset is one;
    flags: by extractor, remarks that every result made from its features must repeat.
    """

    name: str = Field(min_length=1)
    version: str = "1"
    protocol: Protocol
    source: str = ""
    licence: str = ""
    benchmark: str = ""
    flags: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    splits: dict[Split, SplitCount] = Field(default_factory=dict)


class Row(Section):
    """One video: `path` is relative to the media root; `start`/`end` in seconds select a part."""

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
        if value != value.strip() or not all(map(_allowed_in_id, value)):
            raise ValueError(
                "an id has printable characters, spaces and joiners only, and no leading or "
                "trailing space"
            )
        return value

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        path = Path(value)
        if path.is_absolute() or ".." in path.parts or "\0" in value:
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


@dataclass(frozen=True)
class Caption:
    """One caption as an item of its own: id is `<video id>#<index>`."""

    id: str
    video: str
    text: str


@dataclass(frozen=True)
class Manifest:
    """A card and its rows, in file order; ids are unique."""

    card: Card
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        twice = [i for i, n in Counter(row.id for row in self.rows).items() if n > 1]
        if twice:
            raise ManifestError(
                f"manifest {self.card.name}: id {twice[0]!r} occurs more than once"
                + (f" (and {len(twice) - 1} other ids)" if len(twice) > 1 else "")
                + "; ids must be unique, rename or remove a row"
            )

    @cached_property
    def by_id(self) -> dict[str, Row]:
        return {row.id: row for row in self.rows}

    @cached_property
    def digest(self) -> str:
        """sha256 of the card and the rows, whatever order the rows are in."""
        rows = sorted(row.model_dump_json() for row in self.rows)
        return sha256_hex(canonical_json([self.card.model_dump(), rows]).encode())

    def split(self, name: Split) -> list[Row]:
        return [row for row in self.rows if row.split == name]

    def counts(self) -> dict[Split, SplitCount]:
        """Actual counts, in the form of the card's."""
        return {
            name: SplitCount(videos=len(rows), captions=sum(len(r.captions) for r in rows))
            for name in SPLITS
            if (rows := self.split(name))
        }

    def check(self, media: Path | None = None) -> list[str]:
        """Every difference between the rows and the card's counts and protocol, and the files
        missing under `media`."""
        found: list[str] = []
        have = self.counts()
        none = SplitCount(videos=0, captions=0)
        for name in sorted({*have, *self.card.splits}):
            declared, actual = self.card.splits.get(name), have.get(name, none)
            if declared is not None and declared != actual:
                found.append(
                    f"split {name}: card declares {declared.videos} videos and "
                    f"{declared.captions} captions, rows have {actual.videos} and {actual.captions}"
                )
        found += self._check_protocol()
        if media is not None:
            found += [
                f"{r.id}: no file {r.path}" for r in self.rows if not (media / r.path).exists()
            ]
        return found

    def _check_protocol(self) -> list[str]:
        protocol = self.card.protocol
        bound = _ONE_CAPTION_IN[protocol]
        several = [row.id for row in self.rows if len(row.captions) > 1 and row.split in bound]
        if not several:
            return []
        what = f"protocol {protocol}: {len(several)} {' or '.join(bound)} videos have"
        return [f"{what} more than one caption: {shortened(several)}"]

    def save(self, folder: Path) -> None:
        """Write card.toml and rows.jsonl into `folder`, each atomically; the card comes last."""
        lines = [row.model_dump_json(exclude_none=True) + "\n" for row in self.rows]
        atomic_text(folder / "rows.jsonl", "".join(lines))
        atomic_text(folder / "card.toml", tomli_w.dumps(self.card.model_dump()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a manifest folder; raises ManifestError naming file and line of what is wrong, and
        UsageError for a file without read permission."""
        try:
            return cls._load(folder)
        except PermissionError as error:
            raise_if_unreadable(folder, error)
            raise

    @classmethod
    def _load(cls, folder: Path) -> Self:
        card_path, rows_path = folder / "card.toml", folder / "rows.jsonl"
        for path in (card_path, rows_path):
            if not path.is_file():
                raise ManifestError(
                    f"--manifest {folder}: no {path.name} there; make one with "
                    "`m2hf manifest from-folder VIDEOS --captions FILE.csv --out MANIFEST`, or "
                    "a benchmark's with `m2hf manifest build`"
                )
        where = str(card_path)
        data = toml(read_text(card_path, where, ManifestError), where, ManifestError)
        card = parse(Card, data, where, ManifestError)
        # Bytes that aren't UTF-8 become surrogates, so that their line can be named.
        with rows_path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
            return cls(card, tuple(_read_rows(rows_path, lines)))


def shortened(ids: Sequence[str], most: int = 10) -> str:
    """The first `most` ids as a line of text."""
    return ", ".join(ids[:most]) + (", ..." if len(ids) > most else "")


def captions_of(rows: Iterable[Row]) -> Iterator[Caption]:
    """All captions of `rows` as items, in row order."""
    for row in rows:
        for index, text in enumerate(row.captions):
            yield Caption(f"{row.id}#{index}", row.id, text)


def _allowed_in_id(character: str) -> bool:
    return unicodedata.category(character) not in _NOT_IN_ID and character not in _BIDI_CONTROLS


def _read_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
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
