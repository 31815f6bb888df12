"""What every extractor is: a frozen declaration, and a session opened once per process.

The declaration says everything that decides the features (and so makes the fingerprint); the
session holds the models and turns one item into Features. Three kinds differ in what they read:
a decoded clip, a caption, or what other extractors wrote.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from m2hf.config import Section
from m2hf.extract.inference.batching import RowQueue
from m2hf.extract.media.decode import DECODE_REVISION, DecodedClip
from m2hf.extract.media.views import FrameView
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features
from m2hf.ffmpeg import ffmpeg_version
from m2hf.keys import fingerprint


class Extractor(Section, ABC):
    """A declaration. Subclasses add fields; each field is part of the fingerprint.

    revision: raise it when the same config would give other features; columns: names of the
    values where they have any; libraries: whose versions a shard records; texts: whether the
    features have strings; network: whether a network is run, which wants a GPU where there is one.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    texts: ClassVar[bool] = False
    network: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    dtype: Literal["float16", "float32"] = "float32"

    @property
    @abstractmethod
    def width(self) -> int:
        """D of the values."""

    def needs(self) -> tuple[Weight, ...]:
        """The weight files, whether or not they are there; none for untrained weights."""
        return ()

    def weights(self) -> Mapping[str, str]:
        """Name -> sha256 of each weight file; raises ResourceError where one is missing."""
        return {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        """Remarks that everything made of these features must repeat, such as "untrained"."""
        return ()

    def declared(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        """All that decides the features; `upstream` maps what is read to its fingerprint."""
        return {
            "extractor": self.name,
            "revision": self.revision,
            "config": self.model_dump(mode="json"),
            "weights": dict(self.weights()),
            "reads": {name: upstream[name] for name in self.reads},
        }

    def fingerprint(self, upstream: Mapping[str, str] | None = None) -> str:
        """64 hex digits that name exactly these features."""
        return fingerprint(self.declared(upstream or {}))

    def environment(self) -> dict[str, str]:
        """Library -> version, for the record; not part of the fingerprint."""
        return {name: version(name) for name in sorted(self.libraries)}


class MediaSession(ABC):
    """Turns a decoded clip into Features."""

    @abstractmethod
    def extract(self, clip: DecodedClip) -> Features:
        """Features of one clip; EMPTY with a reason where it has nothing of this modality."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """rows (N, ...) that a network is to see of a clip, and what makes Features of its (N, D)."""

    rows: NDArray[Any]
    finish: Callable[[NDArray[np.float32]], Features]


class BatchedSession(MediaSession):
    """A session whose network takes the rows of several clips at once.

    What it prepared goes into `queue`, which is advanced while it is full and, after the last
    clip, while anything waits. What else was in a batch never changes a clip's values.
    """

    def __init__(self, queue: RowQueue) -> None:
        self.queue = queue

    @abstractmethod
    def prepare(self, clip: DecodedClip) -> Features | Prepared:
        """What the network is to see of a clip; Features at once where that is nothing."""

    def extract(self, clip: DecodedClip) -> Features:
        prepared = self.prepare(clip)
        if isinstance(prepared, Features):
            return prepared
        self.queue.add("", prepared.rows)
        while True:
            if finished := self.queue.advance():
                return prepared.finish(finished[""])


class CaptionSession(ABC):
    """Turns a caption into Features."""

    @abstractmethod
    def extract(self, caption: str) -> Features:
        """Features of one caption."""


class DerivedSession(ABC):
    """Turns what other extractors wrote into Features."""

    @abstractmethod
    def extract(self, inputs: Mapping[str, Features]) -> Features:
        """Features of one clip from those that `reads` names."""


class MediaExtractor(Extractor):
    """Reads a decoded clip."""

    def views(self) -> tuple[FrameView, ...]:
        """The pictures it needs."""
        return ()

    def sample_rates(self) -> tuple[int, ...]:
        """The sound it needs."""
        return ()

    def declared(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        return super().declared(upstream) | {"decode": DECODE_REVISION}

    def environment(self) -> dict[str, str]:
        return super().environment() | {"ffmpeg": ffmpeg_version()}

    @abstractmethod
    def open(self, device: str) -> MediaSession:
        """Load models, once per process."""


class CaptionExtractor(Extractor):
    """Reads captions; its items are captions, not videos."""

    @abstractmethod
    def open(self, device: str) -> CaptionSession:
        """Load models, once per process."""


class DerivedExtractor(Extractor):
    """Reads the features of the extractors that `reads` names."""

    @abstractmethod
    def open(self, device: str) -> DerivedSession:
        """Load models, once per process."""


NO_VIDEO = "no video stream"
NO_AUDIO = "no audio stream"
