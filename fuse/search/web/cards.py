"""Hits as a page shows them: with a player, a poster, and the file's own times."""

from collections.abc import Iterator
from dataclasses import dataclass

from m2hf.fuse.features.store import Stream
from m2hf.fuse.search.answer import Answer, Hit, LevelMatch
from m2hf.fuse.search.web.media_files import MediaFile, MediaFiles
from m2hf.thumbnails import thumbnails


@dataclass(frozen=True)
class Bar:
    """One level: its score, and `filled`, the LevelMatch.relative of it; None: it doesn't know
    the video."""

    name: str
    score: str | None = None
    filled: float = 0.0

    @classmethod
    def of(cls, name: str, level: LevelMatch | None) -> "Bar":
        label = name.replace("_", "-")
        if level is None:
            return cls(label)
        return cls(label, f"{level.score:.3f}", round(level.relative, 4))


@dataclass(frozen=True)
class Line:
    """A string that matched: whether it was read or heard, when, and what."""

    origin: str
    when: str
    text: str


@dataclass(frozen=True)
class Card:
    """place: of the video in the gallery, by which its file is asked for; start: the second of
    the file at which the player begins; poster: a data URI, or ""."""

    hit: Hit
    place: int
    file: MediaFile
    when: str
    start: str
    poster: str
    bars: list[Bar]
    lines: list[Line]


@dataclass(frozen=True)
class Cards:
    """places: of videos by id; pictures: the stream of thumbnails, where the store has one."""

    places: dict[str, int]
    files: MediaFiles
    pictures: Stream | None

    def of(self, answer: Answer) -> Iterator[Card]:
        for hit in answer.hits:
            begins = hit.row.start or 0.0
            yield Card(
                hit=hit,
                place=self.places[hit.row.id],
                file=self.files.find(hit.row),
                when=_span(begins + hit.frame.start_s, begins + hit.frame.end_s),
                start=f"{hit.file_start_s:.2f}",
                poster=self._poster(hit),
                bars=[Bar.of(name, level) for name, level in hit.levels.items()],
                lines=[
                    Line(
                        level.origin.capitalize(),
                        _span(begins + level.moment.start_s, begins + level.moment.end_s),
                        level.text,
                    )
                    for level in hit.strings
                ],
            )

    def _poster(self, hit: Hit) -> str:
        """The picture nearest in time to the best frame."""
        if self.pictures is None or not self.pictures.present([hit.row.id])[0]:
            return ""
        middle_s = (hit.frame.start_s + hit.frame.end_s) / 2
        pictures = thumbnails(self.pictures.features(hit.row.id))
        return min(pictures, key=lambda p: abs((p.start_s + p.end_s) / 2 - middle_s)).uri


def _span(start_s: float, end_s: float) -> str:
    return f"{clock(start_s)} to {clock(end_s)}"


def clock(seconds: float) -> str:
    """As players show time: 1:02:03.5, with the tenth that they leave out."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    ahead = f"{hours}:{minutes:02d}" if hours else str(minutes)
    return f"{ahead}:{rest // 10:02d}.{rest % 10}"
