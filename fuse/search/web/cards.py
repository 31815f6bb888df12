"""Hits prepared for the page: player, poster image, and times of the file."""

from collections.abc import Iterator
from dataclasses import dataclass

from m2hf.fuse.features.stream import Stream
from m2hf.fuse.search.results import Hit, LevelMatch, SearchResults
from m2hf.fuse.search.web.media_files import MediaFile, MediaFiles
from m2hf.thumbnails import thumbnails as stored_thumbnails


@dataclass(frozen=True)
class LevelBar:
    """The bar of one level: its score, None where it doesn't cover the video, and filled, its
    LevelMatch.relative."""

    name: str
    score: str | None = None
    filled: float = 0.0

    @classmethod
    def of(cls, name: str, level: LevelMatch | None) -> "LevelBar":
        label = name.replace("_", "-")
        if level is None:
            return cls(label)
        return cls(label, f"{level.score:.3f}", round(level.relative, 4))


@dataclass(frozen=True)
class MatchedString:
    """A string that matched: whether it was seen, read or heard, its time, and its text."""

    origin: str
    when: str
    text: str


@dataclass(frozen=True)
class HitCard:
    """number: of the video in the gallery, which is part of its URL; start: position in the file,
    in seconds, at which the player starts; poster: a data URI, or ""."""

    hit: Hit
    number: int
    file: MediaFile
    when: str
    start: str
    poster: str
    bars: list[LevelBar]
    lines: list[MatchedString]


@dataclass(frozen=True)
class HitCards:
    """numbers: of videos by id; thumbnails: the stream of them, where the store has one."""

    numbers: dict[str, int]
    files: MediaFiles
    thumbnails: Stream | None

    def of(self, results: SearchResults) -> Iterator[HitCard]:
        for hit in results.hits:
            begins = hit.row.start or 0.0
            yield HitCard(
                hit=hit,
                number=self.numbers[hit.row.id],
                file=self.files.find(hit.row),
                when=_span(begins + hit.frame.start_s, begins + hit.frame.end_s),
                start=f"{hit.file_start_s:.2f}",
                poster=self._poster(hit),
                bars=[LevelBar.of(name, level) for name, level in hit.levels.items()],
                lines=[
                    MatchedString(
                        line.origin.capitalize(),
                        _span(begins + line.start_s, begins + line.end_s),
                        line.text,
                    )
                    for line in hit.lines
                ],
            )

    def _poster(self, hit: Hit) -> str:
        """The thumbnail nearest in time to the best frame."""
        if self.thumbnails is None or not self.thumbnails.present([hit.row.id])[0]:
            return ""
        middle_s = (hit.frame.start_s + hit.frame.end_s) / 2
        images = stored_thumbnails(self.thumbnails.features(hit.row.id))
        return min(images, key=lambda p: abs((p.start_s + p.end_s) / 2 - middle_s)).uri


def _span(start_s: float, end_s: float) -> str:
    return f"{clock(start_s)} to {clock(end_s)}"


def clock(seconds: float) -> str:
    """Time as players show it, plus tenths: 1:02:03.5."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    leading = f"{hours}:{minutes:02d}" if hours else str(minutes)
    return f"{leading}:{rest // 10:02d}.{rest % 10}"
