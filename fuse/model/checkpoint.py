"""A trained model in one safetensors file, with the provenance of its weights.

The metadata holds one JSON text: the resolved config, each stream's fingerprint, width and flags,
the manifest's digest, library versions, the epoch, and the sha256 of the whole file, computed with
zeros in its own place (version 1 has none). Before version 3, affine was the one trained late
rule, and before version 4 there was no mention_mixture. Settings that are newer than a file keep
the meaning that they had for it. No pickle, no clock, no path.
"""

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import safetensors
import safetensors.torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from m2hf.atomic import atomic_write, raise_if_unreadable
from m2hf.config import Section, parse
from m2hf.errors import MismatchError, UsageError, first_line
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.features.stream import StreamInfo
from m2hf.fuse.model.retriever import Retriever, build_model
from m2hf.fuse.model.words import WordStatistics
from m2hf.fuse.scores.late_rules import TRAINED
from m2hf.keys import canonical_json
from m2hf.plain_data import json_object, shown
from m2hf.streams import StreamName, extractor_of

SCHEMA = "m2hf.checkpoint"
VERSION = 4
# Trained late rules of the versions that lack some of today's; the first is named in messages.
_FITTED = {1: ("affine",), 2: ("affine",), 3: ("mention", "affine")}

# Settings that older versions lack, by path in the config: what they meant without them.
_BEFORE: dict[str, Any] = {
    "model.standardise": False,
    "model.projection": "adapted",
    "model.own_captions": False,
}

# One key: safetensors writes several in no fixed order, and equal runs must give equal bytes.
_KEY = SCHEMA
_DIGEST = "file_sha256"
_BEFORE_DIGEST = rf"\"{_DIGEST}\":\"".encode()  # in the file, whose header is JSON with JSON in it
_ZEROS = "0" * 64


class _StreamRecord(Section):
    """A `StreamInfo` as it is stored."""

    name: str = Field(min_length=1)
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    width: int = Field(ge=1, strict=True)
    flags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _named(self) -> Self:
        StreamName.of(extractor_of(self.name), self.fingerprint)  # raises ValueError
        return self


class _Record(Section):
    """The metadata as it is stored."""

    model_config = ConfigDict(extra="allow")

    config: dict[str, Any]
    streams: dict[str, _StreamRecord]
    dataset: str = Field(min_length=1)
    manifest: str = Field(min_length=1)
    epoch: int = Field(ge=0, strict=True)
    words: dict[str, WordStatistics] = Field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointHeader:
    """The metadata of a checkpoint; `manifest` is the digest of the training manifest; fitted: the
    trained late rules that it has parameters of; words: statistics of the levels of words, by
    name."""

    config: FusionConfig
    streams: dict[str, StreamInfo]
    dataset: str
    manifest: str
    epoch: int
    fitted: tuple[str, ...] = TRAINED
    words: Mapping[str, WordStatistics] = field(default_factory=dict)

    def check(self, path: Path, store: FeatureStore) -> None:
        """Raises MismatchError naming the first stream that differs from the one trained on."""
        for role, trained in self.streams.items():
            have = store.info[role]
            if (have.fingerprint, have.width) != (trained.fingerprint, trained.width):
                raise MismatchError(
                    f"{path}: stream {role}: trained on {trained}, the store has {have}; "
                    "give the store it was trained on, or train again"
                )


def save(path: Path, model: Retriever, header: CheckpointHeader) -> None:
    """Write atomically; equal weights and header give equal bytes."""
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "config": header.config.model_dump(mode="json"),
        "streams": {role: asdict(info) for role, info in header.streams.items()},
        "dataset": header.dataset,
        "manifest": header.manifest,
        "epoch": header.epoch,
        "words": {name: known.model_dump() for name, known in header.words.items()},
        "libraries": {name: version(name) for name in ("m2hf", "numpy", "safetensors", "torch")},
        _DIGEST: _ZEROS,
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={_KEY: canonical_json(about)})
        place, digest = _digest_of(temporary, _ZEROS)
        with temporary.open("r+b") as file:
            file.seek(place)
            file.write(digest.encode())


def _digest_of(path: Path, stored: str) -> tuple[int, str]:
    """Where the digest `stored` is in the header, and the sha256 of the file with zeros there.

    Raises ValueError where it occurs more than once, so that its place is unknown, or never.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = 8 + int.from_bytes(data[:8], "little")
        entry = _BEFORE_DIGEST + stored.encode()
        place = data.find(entry, 0, end) + len(_BEFORE_DIGEST)
        if data[:end].count(entry) != 1:
            raise ValueError("its digest can't be located")
        sha = hashlib.sha256(data[:place] + _ZEROS.encode())
        with memoryview(data) as view, view[place + len(_ZEROS) :] as rest:
            sha.update(rest)
    return place, sha.hexdigest()


def read_header(path: Path) -> CheckpointHeader:
    """The header, after the digest of the whole file was checked; raises UsageError for a file
    that is missing, damaged, not a checkpoint of m2hf, or of another schema version."""
    try:
        if not path.is_file():
            raise UsageError(
                f"{path}: no checkpoint; train one with `m2hf train`, or name another run"
            )
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise_if_unreadable(path, error)
        raise UsageError(
            f"{path}: damaged checkpoint ({first_line(error)}); train again"
        ) from error
    if _KEY not in metadata:
        raise UsageError(f"{path}: a safetensors file, but not a checkpoint of m2hf")
    about = json_object(metadata[_KEY], str(path))
    found = about.get("version")
    if type(found) is not int or not 1 <= found <= VERSION:
        raise UsageError(
            f"{path}: checkpoint schema version {shown(found)}, this m2hf reads 1 to {VERSION}; "
            "install the m2hf that wrote it, or train again"
        )
    if found > 1 or _DIGEST in about:
        _check_digest(path, about.get(_DIGEST))
    record = parse(_Record, about, str(path), UsageError)
    if found < VERSION:
        _complete(record.config)
    config = parse(FusionConfig, record.config, str(path), UsageError)
    if record.streams.keys() != set(config.roles):
        raise UsageError(
            f"{path}: streams of {', '.join(sorted(record.streams)) or 'no role'}, expected those "
            f"that its config reads: {', '.join(sorted(config.roles))}; train again"
        )
    if record.words.keys() != config.word_levels.keys():
        raise UsageError(
            f"{path}: statistics of words for {', '.join(record.words) or 'no level'}, expected "
            f"those of {', '.join(config.word_levels) or 'no level'}; train again"
        )
    return CheckpointHeader(
        config=config,
        streams={role: StreamInfo(**dict(info)) for role, info in record.streams.items()},
        dataset=record.dataset,
        manifest=record.manifest,
        epoch=record.epoch,
        fitted=_FITTED.get(found, TRAINED),
        words={name: record.words[name] for name in config.word_levels},
    )


def _complete(config: dict[str, Any]) -> None:
    """Add the settings of `_BEFORE` that the config of an older version lacks."""
    for setting, value in _BEFORE.items():
        section, _, name = setting.rpartition(".")
        within = config.setdefault(section, {}) if section else config
        if isinstance(within, dict):  # else parsing names the fault
            within.setdefault(name, value)


def _check_digest(path: Path, stored: object) -> None:
    try:
        intact = isinstance(stored, str) and _digest_of(path, stored)[1] == stored
    except ValueError:
        intact = False
    if not intact:
        raise UsageError(
            f"{path}: damaged checkpoint (its bytes differ from those that were written); "
            "train again"
        )


def load(path: Path, store: FeatureStore) -> tuple[Retriever, CheckpointHeader]:
    """The model on the CPU and its header.

    Raises MismatchError where `store` differs from what it was trained on, UsageError as
    `read_header`.
    """
    header = read_header(path)
    header.check(path, store)
    widths = {role: info.width for role, info in header.streams.items()}
    try:
        model = build_model(header.config, widths)
        weights = safetensors.torch.load_file(path)
        if header.fitted != TRAINED:
            weights = _with_every_late_rule(weights, model, header.fitted)
        model.words = header.words
        model.load_state_dict(weights)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"{path}: its weights don't match its config ({first_line(error)}); train again"
        ) from error
    if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values()):
        raise UsageError(f"{path}: its weights hold NaN or infinity; train again")
    return model, header


def _with_every_late_rule(
    old: Mapping[str, Tensor], model: Retriever, fitted: Sequence[str]
) -> dict[str, Tensor]:
    """Weights of a version with the late rules `fitted` under their names of today. Its statistics
    are those of every rule; slopes of the others are not fitted, and are those of `model`."""
    today, weights = model.state_dict(), {}
    for name, tensor in old.items():
        owner, _, parameter = name.rpartition("late.")  # of the only rule, before version 3
        now = f"{owner}late_fusions.{fitted[0]}.{parameter}"
        weights[now if now in today else name] = tensor
    for name, start in today.items():
        owner, late, rest = name.partition("late_fusions.")
        rule, _, parameter = rest.partition(".")
        if not late or rule in fitted:
            continue
        known = f"{owner}{late}{fitted[0]}.{parameter}"
        if parameter not in ("centre_L", "deviation_L"):
            weights[name] = start
        elif known in weights:
            weights[name] = weights[known]
    return weights
