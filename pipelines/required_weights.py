"""The weight files that the extractors of a recipe need, and whether each is on this machine."""

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
class RequiredWeight:
    """A weight file and the extractors that need it. file: where it is, if found; message: why not.

    state: "damaged" is a file that exists and whose content is not the expected one.
    """

    weight: Weight
    extractors: tuple[str, ...]
    state: State
    file: WeightFile | None = None
    message: str = ""

    @classmethod
    def of(cls, weight: Weight, extractors: Iterable[str]) -> "RequiredWeight":
        """Look for the file and hash it."""
        names = tuple(extractors)
        try:
            return cls(weight, names, "found", weight.locate())
        except ResourceError as error:
            exists = weight.find() is not None
            return cls(weight, names, "damaged" if exists else "missing", message=str(error))

    @property
    def size_mb(self) -> float:
        """The size of the file, else about that of the download (0: less than 1)."""
        if self.file is None:
            return self.weight.size_mb
        return sum(path.stat().st_size for path in self.file.paths) / 1e6

    def as_json(self) -> dict[str, Any]:
        """The entry that `weights list --json` prints."""
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


def required_weights(config: ExtractConfig, names: tuple[str, ...]) -> list[RequiredWeight]:
    """Weights of the extractors `names` and of those whose features they read; each file once."""
    wanted: dict[Weight, list[str]] = {}
    for name in with_upstream(config, names):
        for weight in config.extractor(name).needs():
            wanted.setdefault(weight, []).append(name)
    return [RequiredWeight.of(weight, extractors) for weight, extractors in wanted.items()]


def other_weights(
    folder: WeightsFolder, required: Iterable[RequiredWeight]
) -> Iterator[tuple[str, str]]:
    """(name, "" or what is wrong) of each file in the folder's index that is not in `required`."""
    names = {one.weight.name for one in required}
    for name, kept in folder.index().items():
        if name not in names:
            yield name, folder.damage(kept)
