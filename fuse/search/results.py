"""Search results: ranked videos, and in each of them the moment that matched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2hf.manifest import Row


@dataclass(frozen=True)
class Moment:
    """A row of a stream: its time in seconds from the start of the clip, as in shards; cosine:
    similarity of the row and the adapted query, None where words were compared."""

    start_s: float
    end_s: float
    cosine: float | None

    def as_json(self) -> dict[str, float]:
        cosine = {} if self.cosine is None else {"cosine": round(self.cosine, 6)}
        return {"start_s": round(self.start_s, 4), "end_s": round(self.end_s, 4), **cosine}


@dataclass(frozen=True)
class MatchedLine:
    """A string that matched: origin as of `LevelMatch`, its time, and its text."""

    origin: str
    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class LevelMatch:
    """One level of one video: its score; `relative`, 0 for the lowest score of the gallery for
    this query and 1 for the highest; and the best moment, None for a level of words where no string
    has a word of the query. text: the string of that moment's row; origin: "seen", "read" or
    "heard", or "text" where its source stream is unknown."""

    name: str
    score: float
    relative: float
    moment: Moment | None
    text: str = ""
    origin: str = ""

    def as_json(self) -> dict[str, Any]:
        matched = {"text": self.text, "origin": self.origin} if self.text else {}
        scores = {"score": round(self.score, 6), "relative": round(self.relative, 6)}
        moment = {} if self.moment is None else self.moment.as_json()
        return {**scores, **moment, **matched}


@dataclass(frozen=True)
class Hit:
    """One video: rank from 1, fused score, the best-matching frame, and the levels by name,
    None for those that don't cover the video."""

    rank: int
    row: Row
    score: float
    frame: Moment
    levels: Mapping[str, LevelMatch | None]

    @property
    def lines(self) -> list[MatchedLine]:
        """The strings of the levels' best moments; one that several levels found is there once."""
        found = {
            MatchedLine(level.origin, level.moment.start_s, level.moment.end_s, level.text): None
            for level in self.levels.values()
            if level is not None and level.moment is not None and level.text
        }
        return list(found)

    @property
    def file_start_s(self) -> float:
        """Start of the best frame in seconds from the start of the file; a clip may be a part of a
        file."""
        return (self.row.start or 0.0) + self.frame.start_s

    def as_json(self) -> dict[str, Any]:
        levels = {n: None if v is None else v.as_json() for n, v in self.levels.items()}
        return {
            "rank": self.rank,
            "video": self.row.id,
            "path": self.row.path,
            "score": round(self.score, 6),
            "frame": self.frame.as_json(),
            "file_start_s": round(self.file_start_s, 4),
            "levels": levels,
        }


@dataclass(frozen=True)
class SearchResults:
    """videos: number of videos searched; unseen: number of videos without features, which can't
    be found; rule: of late fusion; remarks: on the query; flags: by role, of the features."""

    query: str
    dataset: str
    videos: int
    unseen: int
    rule: str
    remarks: Sequence[str]
    flags: Mapping[str, Sequence[str]]
    hits: Sequence[Hit]

    def as_json(self) -> dict[str, Any]:
        """The JSON of `search --json` and of the app's /search.json."""
        return {
            "query": self.query,
            "dataset": self.dataset,
            "videos": self.videos,
            "unseen": self.unseen,
            "rule": self.rule,
            "remarks": list(self.remarks),
            "flags": {role: list(flags) for role, flags in self.flags.items()},
            "hits": [hit.as_json() for hit in self.hits],
        }
