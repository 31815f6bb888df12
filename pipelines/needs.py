"""Every weight file that the extractors of a recipe need, and the state of each here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from m2hf.errors import ResourceError
from m2hf.extract.weights.folder import WeightsFolder
from m2hf.extract.weights.weight import Weight, WeightFile
from m2hf.pipelines.config import ExtractConfig
from m2hf.pipelines.job import with_upstream

State = Literal["found", "missing", "damaged"]


@dataclass(frozen=True)
class Need:
    """A weight file and who needs it. file: where it is found whole; message: why it is not.

    state: "damaged" is a file that is there and not the one that is known by this name.
    """

    weight: Weight
    extractors: tuple[str, ...]
    state: State
    file: WeightFile | None = None
    message: str = ""

    @classmethod
    def of(cls, weight: Weight, extractors: Iterable[str]) -> "Need":
        """Looks for the file and hashes it."""
        names = tuple(extractors)
        try:
            return cls(weight, names, "found", weight.locate())
        except ResourceError as error:
            there = weight.find() is not None
            return cls(weight, names, "damaged" if there else "missing", message=str(error))

    @property
    def size_mb(self) -> float:
        """What is there, else about what is to come (0: less than 1)."""
        if self.file is None:
            return self.weight.size_mb
        return sum(path.stat().st_size for path in self.file.paths) / 1e6

    def as_json(self) -> dict[str, Any]:
        """What `weights list --json` prints of it."""
        file = self.file
        return {
            "name": self.weight.name,
            "for": list(self.extractors),
            "state": self.state,
            "size_mb": round(self.size_mb, 1),
            "sha256": file.sha256 if file else None,
            "pinned": self.weight.pinned or None,
            "place": file.place if file else None,
            "paths": [str(path) for path in file.paths] if file else [],
            "message": self.message,
        }


def needs(config: ExtractConfig, names: tuple[str, ...]) -> list[Need]:
    """What the extractors `names` need, and what those need that they read; each file once."""
    wanted: dict[Weight, list[str]] = {}
    for name in with_upstream(config, names):
        for weight in config.extractor(name).needs():
            wanted.setdefault(weight, []).append(name)
    return [Need.of(weight, extractors) for weight, extractors in wanted.items()]


def others_kept(folder: WeightsFolder, beside: Iterable[Need]) -> Iterator[tuple[str, str]]:
    """(name, "" or what is wrong) of what the folder's index lists beside these."""
    seen = {need.weight.name for need in beside}
    for name, kept in folder.index().items():
        if name not in seen:
            yield name, folder.damage(kept)
