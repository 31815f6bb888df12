"""Base classes of extractors: a frozen declaration, and a session opened once per process.

The declaration holds everything that decides the features, and so makes the fingerprint; the
session holds the models and turns one item into Features. Three kinds differ in their input:
a decoded clip, a caption, or the features of other extractors.
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
    """The declaration of an extractor. Subclasses add fields, all part of the fingerprint."""

    name: ClassVar[str]
    """Its key in the config, its folder in a store, its name on the command line."""

    revision: ClassVar[int] = 1
    """To be raised when the same config would give other features."""

    columns: ClassVar[tuple[str, ...]] = ()
    """Names of the values; () where they have none, as those of an embedding."""

    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    """Libraries whose versions a shard records."""

    texts: ClassVar[bool] = False
    """Whether the features have strings."""

    network: ClassVar[bool] = False
    """Whether it runs a neural network, and so uses a GPU where there is one."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Names of the extractors whose features are its input."""

    dtype: Literal["float16", "float32"] = "float32"
    """Type in which a shard stores the values."""

    @property
    def width(self) -> int:
        """D of the values: one for each of `columns`; overridden where these have no names."""
        return len(self.columns)

    def needs(self) -> tuple[Weight, ...]:
        """The weight files, present or not; none for untrained weights."""
        return ()

    def weights(self) -> Mapping[str, str]:
        """Name -> sha256 of each weight file; raises ResourceError where one is missing."""
        return {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        """Remarks that everything made from these features must repeat, such as "untrained"."""
        return ()

    def settings(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        """All that decides the features but the weights, whose files may be missing; `upstream`:
        fingerprints by name, for `reads`."""
        return {
            "extractor": self.name,
            "revision": self.revision,
            "config": self.model_dump(mode="json"),
            "reads": {name: upstream[name] for name in self.reads},
        }

    def declared(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        """All that decides the features; `upstream`: as of `settings`. Raises ResourceError where
        a weight file is missing."""
        return self.settings(upstream) | {"weights": dict(self.weights())}

    def fingerprint(self, upstream: Mapping[str, str] | None = None) -> str:
        """64 hex digits that identify these features."""
        return fingerprint(self.declared(upstream or {}))

    def environment(self) -> dict[str, str]:
        """Library -> version, recorded in a shard; not part of the fingerprint."""
        return {name: version(name) for name in sorted(self.libraries)}


class MediaSession(ABC):
    """Turns a decoded clip into Features."""

    @abstractmethod
    def extract(self, clip: DecodedClip) -> Features:
        """Features of one clip; EMPTY with a reason where the clip lacks this modality."""


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """One clip's input to a network, and how its output becomes Features."""

    rows: NDArray[Any]
    """(N, ...), the network's input."""

    finish: Callable[[NDArray[np.float32]], Features]
    """Makes Features from the network's output (N, D)."""


class BatchedSession(MediaSession):
    """A session whose network runs on batches of rows from several clips.

    Prepared rows go into `queue`, which is advanced while it is full and, after the last clip,
    while any rows are left. A clip's values don't depend on the other rows of a batch.
    """

    def __init__(self, queue: RowQueue) -> None:
        self.queue = queue

    @abstractmethod
    def prepare(self, clip: DecodedClip) -> Features | PreparedClip:
        """The network's input from a clip; EMPTY Features at once where there is none."""

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
    """Turns the features of other extractors into Features."""

    @abstractmethod
    def extract(self, inputs: Mapping[str, Features]) -> Features:
        """Features of one clip; `inputs`: its features by extractor name, for `reads`."""


class MediaExtractor(Extractor):
    """Reads a decoded clip."""

    def views(self) -> tuple[FrameView, ...]:
        """The views of the frames to decode for it."""
        return ()

    def sample_rates(self) -> tuple[int, ...]:
        """The sample rates of the sound to decode for it, in Hz."""
        return ()

    def settings(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        return super().settings(upstream) | {"decode": DECODE_REVISION}

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
