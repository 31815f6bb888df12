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

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import tomli_w
from pydantic import Field

from m2hf.atomic import atomic_text, atomic_write, raise_if_unreadable
from m2hf.config import Section, parse
from m2hf.errors import ManifestError
from m2hf.keys import canonical_json
from m2hf.packed_rows import PackedRows
from m2hf.plain_data import read_text, toml
from m2hf.row import SPLITS, Caption, Row, Split, captions_of, read_rows

__all__ = ["SPLITS", "Caption", "Card", "Manifest", "Row", "Split", "captions_of", "shortened"]

Protocol = Literal["one_caption", "multi_caption", "paragraph"]
_ONE_CAPTION_IN: dict[Protocol, tuple[Split, ...]] = {
    "one_caption": ("test",),
    "multi_caption": (),
    "paragraph": SPLITS,
}


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


@dataclass(frozen=True, init=False)
class Manifest:
    """A card and its rows, in file order; ids are unique."""

    card: Card
    rows: PackedRows

    def __init__(self, card: Card, rows: Iterable[Row]) -> None:
        """Raises ManifestError for an id that occurs twice."""
        object.__setattr__(self, "card", card)
        object.__setattr__(self, "rows", PackedRows.of(rows))
        if twice := self.rows.repeated_ids():
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
        # That of canonical_json([card, rows]), which for millions of rows would be a huge text.
        sha = hashlib.sha256(f"[{canonical_json(self.card.model_dump())},[".encode())
        for number, row in enumerate(self.rows.sorted_json()):
            sha.update(f"{',' if number else ''}{canonical_json(row)}".encode())
        sha.update(b"]]")
        return sha.hexdigest()

    def split(self, name: Split) -> PackedRows:
        return self.rows.where(lambda row: row.split == name)

    def counts(self) -> dict[Split, SplitCount]:
        """Actual counts, in the form of the card's."""
        videos, captions = Counter[Split](), Counter[Split]()
        for row in self.rows:
            videos[row.split] += 1
            captions[row.split] += len(row.captions)
        return {
            name: SplitCount(videos=videos[name], captions=captions[name])
            for name in SPLITS
            if videos[name]
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
        with (
            atomic_write(folder / "rows.jsonl") as temporary,
            temporary.open("w", encoding="utf-8") as lines,
        ):
            lines.writelines(f"{row.model_dump_json(exclude_none=True)}\n" for row in self.rows)
        atomic_text(folder / "card.toml", tomli_w.dumps(self.card.model_dump()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a manifest folder; raises ManifestError naming file and line of what is wrong, and
        UsageError for a file without read permission."""
        card, rows_path = cls.read_card(folder), folder / "rows.jsonl"
        try:
            # Bytes that aren't UTF-8 become surrogates, so that their line can be named.
            with rows_path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
                return cls(card, read_rows(rows_path, lines))
        except PermissionError as error:
            raise_if_unreadable(folder, error)
            raise

    @classmethod
    def read_card(cls, folder: Path) -> Card:
        """The card of a manifest folder, without its rows; raises as `load`."""
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
        return parse(Card, data, where, ManifestError)


def shortened(ids: Sequence[str], most: int = 10) -> str:
    """The first `most` ids as a line of text."""
    return ", ".join(ids[:most]) + (", ..." if len(ids) > most else "")
