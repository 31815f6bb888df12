"""How many videos of the gallery have each modality, and why the others don't."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from m2hf.fuse.features.stream import Stream
from m2hf.fuse.report.source import ReportSource

NOT_STORED = "not in the store: not extracted, or failed"
_MAX_REASONS = 4


@dataclass(frozen=True)
class Modality:
    """A stream of videos. available: how many of all `videos` have it; missing: count by reason,
    most frequent first; levels: the levels that read it, none for a stream that is only shown."""

    name: str
    stream: str
    videos: int
    available: int
    missing: tuple[tuple[str, int], ...]
    levels: tuple[str, ...]

    @property
    def percent(self) -> float:
        return 100 * self.available / self.videos if self.videos else 0.0


def modalities(source: ReportSource) -> Iterator[Modality]:
    """The scored streams of videos, then those that are only shown."""
    levels = source.file.config.get("levels", {})
    for role in source.file.present:
        readers = [name for name in source.file.masks if levels[name]["stream"] == role]
        yield _modality(role, source.streams[role], source.file.video_ids, tuple(readers))
    for name, stream in source.display_streams.items():
        yield _modality(name, stream, source.file.video_ids, ())


def _modality(
    name: str, stream: Stream, videos: tuple[str, ...], levels: tuple[str, ...]
) -> Modality:
    present = zip(videos, stream.present(videos), strict=True)
    without = [video for video, available in present if not available]
    reasons = Counter(stream.reason(video) or NOT_STORED for video in without).most_common()
    rest = sum(count for _, count in reasons[_MAX_REASONS:])
    listed = [*reasons[:_MAX_REASONS], *([("other reasons", rest)] if rest else [])]
    available = len(videos) - len(without)
    return Modality(name, stream.info.name, len(videos), available, tuple(listed), levels)
