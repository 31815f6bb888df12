"""The header of a similarity file: what is known of a split before it is scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import h5py
from pydantic import AfterValidator, BaseModel

from m2hf.array_types import BoolArray, IntArray
from m2hf.fuse.level_table import CAPTIONS
from m2hf.hdf5 import Hdf5Reader, fixed_strings
from m2hf.keys import canonical_json

_TEXT = ("dataset", "benchmark", "split", "manifest", "checkpoint", "trained_on")


class _Stream(BaseModel):
    """What must be known of a stream."""

    stream: str
    fingerprint: str
    digest: str
    shards: str
    extractor: str
    revision: int
    config: dict[str, Any]
    weights: dict[str, str]


class _Level(BaseModel):
    stream: str
    fusion: str


class _Config(BaseModel):
    """What tables and reports read of the config."""

    levels: dict[str, _Level] = {}
    train: dict[str, Any] = {}


def _checked(model: type[BaseModel]) -> Any:
    """Plain data that `model` accepts; they stay plain data."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        model.model_validate(value, strict=True)
        return value

    return Annotated[dict[str, Any], AfterValidator(check)]


_JSON: Mapping[str, Any] = {
    "streams": dict[str, _checked(_Stream)],  # type: ignore[misc]
    "config": _checked(_Config),
    "flags": dict[str, list[str]],
    "missing": dict[str, int],
    "declared": dict[str, int],
}


@dataclass(frozen=True, eq=False)
class SimilarityHeader:
    """All of a similarity file but scores and masks.

    present: by role of a stream of videos. manifest, checkpoint: sha256; trained_on: name of the
    training dataset; streams: by role {stream, fingerprint, digest of the items used, shards:
    sha256 of all files of the stream, extractor, revision, config, weights: name -> sha256};
    config: the resolved fusion config; flags: by role; missing: by role, how many videos (or
    queries) have no features; declared: how many videos and captions the dataset's card declares
    for the split, or nothing.

    Raises ValueError for arrays that don't fit together.
    """

    dataset: str
    benchmark: str
    split: str
    manifest: str
    checkpoint: str
    trained_on: str
    streams: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    flags: Mapping[str, Sequence[str]]
    missing: Mapping[str, int]
    declared: Mapping[str, int]
    query_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    video_of_query: IntArray
    present: Mapping[str, BoolArray]

    def __post_init__(self) -> None:
        q, v = len(self.query_ids), len(self.video_ids)
        if self.video_of_query.shape != (q,):
            raise ValueError(f"video_of_query: expected ({q},), got {self.video_of_query.shape}")
        if q and not 0 <= self.video_of_query.min() <= self.video_of_query.max() < v:
            raise ValueError(f"video_of_query: a query names a video outside 0..{v - 1}")
        if len({*self.query_ids}) < q or len({*self.video_ids}) < v:
            raise ValueError("query_id or video_id: an id occurs twice")
        self.check_masks("present", self.present)

    @property
    def query_roles(self) -> tuple[str, ...]:
        """Roles whose items are captions: `captions`, and other streams that aren't of videos."""
        others = (role for role in self.streams if role not in self.present)
        return tuple(dict.fromkeys([CAPTIONS, *others]))

    def check_masks(self, group: str, masks: Mapping[str, BoolArray]) -> None:
        """Raises ValueError for a mask that isn't (V,)."""
        for name, mask in masks.items():
            if mask.shape != (len(self.video_ids),):
                expected = f"({len(self.video_ids)},)"
                raise ValueError(f"{group}/{name}: expected {expected}, got {mask.shape}")

    def write_header(self, file: h5py.File) -> None:
        """Write the header's attributes and datasets."""
        for name in _TEXT:
            file.attrs[name] = getattr(self, name)
        for name in _JSON:
            file.attrs[name] = canonical_json(getattr(self, name))
        file.attrs["roles"] = canonical_json(list(self.present))
        file["query_id"] = fixed_strings(self.query_ids)
        file["video_id"] = fixed_strings(self.video_ids)
        file["video_of_query"] = self.video_of_query.astype("<i8")
        for name, mask in self.present.items():
            file[f"present/{name}"] = mask


def read_header_fields(file: Hdf5Reader) -> dict[str, Any]:
    """The fields of a SimilarityHeader by name; raises ValueError where one is damaged."""
    texts: dict[str, Any] = {name: file.text(name) for name in _TEXT}
    return {
        **texts,
        **{name: file.json(name, kind) for name, kind in _JSON.items()},
        "query_ids": file.strings("query_id"),
        "video_ids": file.strings("video_id"),
        "video_of_query": file.array("video_of_query", "<i8"),
        "present": {
            name: file.array(f"present/{name}", "|b1") for name in file.json("roles", list[str])
        },
    }
