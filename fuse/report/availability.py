"""How many videos of the gallery have each modality, and why the others lack it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from m2hf.fuse.features.store import Stream
from m2hf.fuse.report.source import Source

NEVER = "not in the store: not extracted, or failed"
_MOST_REASONS = 4


@dataclass(frozen=True)
class Modality:
    """have: of all `videos`; lacking: how many by reason, most first; levels: which read it, none
    for what is only shown."""

    name: str
    stream: str
    videos: int
    have: int
    lacking: tuple[tuple[str, int], ...]
    levels: tuple[str, ...]

    @property
    def percent(self) -> float:
        return 100 * self.have / self.videos if self.videos else 0.0


def modalities(source: Source) -> Iterator[Modality]:
    """The streams of videos that were scored, then those that are shown beside them."""
    levels = source.file.config.get("levels", {})
    for role in source.file.present:
        readers = [name for name in source.file.masks if levels[name]["stream"] == role]
        yield _modality(role, source.streams[role], source.file.video_ids, tuple(readers))
    for name, stream in source.beside.items():
        yield _modality(name, stream, source.file.video_ids, ())


def _modality(
    name: str, stream: Stream, videos: tuple[str, ...], levels: tuple[str, ...]
) -> Modality:
    without = [video for video, has in zip(videos, stream.present(videos), strict=True) if not has]
    reasons = Counter(stream.reason(video) or NEVER for video in without).most_common()
    rest = sum(count for _, count in reasons[_MOST_REASONS:])
    told = [*reasons[:_MOST_REASONS], *([("other reasons", rest)] if rest else [])]
    have = len(videos) - len(without)
    return Modality(name, stream.info.name, len(videos), have, tuple(told), levels)
