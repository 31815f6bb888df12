"""What a search says: videos in order, and in each of them the moment that matched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2hf.manifest import Row


@dataclass(frozen=True)
class Moment:
    """Seconds from the start of the clip, as in shards; cosine: of the adapted query with the
    row that lies there."""

    start_s: float
    end_s: float
    cosine: float

    def as_json(self) -> dict[str, float]:
        return {
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "cosine": round(self.cosine, 6),
        }


@dataclass(frozen=True)
class LevelMatch:
    """One level of one video: its score; `relative`, 0 for the lowest and 1 for the highest of
    the gallery for this query; and where it matched best. text: the string that lies there, and
    origin, whether it was "read" or "heard", or "text" where that can't be told."""

    name: str
    score: float
    relative: float
    moment: Moment
    text: str = ""
    origin: str = ""

    def as_json(self) -> dict[str, Any]:
        said = {"text": self.text, "origin": self.origin} if self.text else {}
        scores = {"score": round(self.score, 6), "relative": round(self.relative, 6)}
        return {**scores, **self.moment.as_json(), **said}


@dataclass(frozen=True)
class Hit:
    """One video: rank from 1, fused score, the frame that matches best, and by name the levels
    that know it, None for those that don't."""

    rank: int
    row: Row
    score: float
    frame: Moment
    levels: Mapping[str, LevelMatch | None]

    @property
    def strings(self) -> list[LevelMatch]:
        """Levels that matched a string."""
        return [level for level in self.levels.values() if level is not None and level.text]

    @property
    def file_start_s(self) -> float:
        """The second of the file at which the best frame begins: a clip may be a part of it."""
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
class Answer:
    """videos: how many were searched; unseen: how many more have no features, so that nothing
    can find them; rule: of late fusion; remarks: of the query; flags: by role, of the features."""

    query: str
    dataset: str
    videos: int
    unseen: int
    rule: str
    remarks: Sequence[str]
    flags: Mapping[str, Sequence[str]]
    hits: Sequence[Hit]

    def as_json(self) -> dict[str, Any]:
        """What `search --json` and the app's /search.json give."""
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
