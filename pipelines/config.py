"""The [extract] section of a recipe: how to run, and one sub-section for each extractor."""

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, model_validator

from m2hf.config import Section
from m2hf.errors import ConfigError
from m2hf.extract import registry
from m2hf.extract.base import Extractor
from m2hf.extract.media.views import MediaLimits
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.joint_space import AnyEncoder, is_open_clip
from m2hf.streams import CONCEPTS, IMAGE


class Cluster(Section):
    """Dask workers, with `--workers` or `--scheduler`."""

    wait_s: float = Field(default=300.0, ge=0.0, le=1e7)
    """Seconds to wait for a worker that can run the tasks, at the start and after the last such
    worker has gone, before the run ends with an error."""
    worker_ttl_s: float = Field(default=300.0, gt=0.0, le=1e7)
    """Seconds without a heartbeat after which a worker of `--workers` counts as frozen and its
    bucket goes to another one. An external scheduler has distributed.scheduler.worker-ttl
    instead."""


class _Running(Section):
    """How to run extraction. Apart from device and encoder, none of it changes the features."""

    extractors: tuple[str, ...] = ("clip", "caption", "audio", "motion", "ocr", "asr", "text")
    """Extractors to run where `--only` names none: by default one for each stream of fusion."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of the networks; auto: CUDA where there is one, else the CPU."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of every numeric library in each process. Workers are the parallelism."""
    buckets: int = Field(default=0, ge=0, le=1 << 18)
    """Buckets, and so shards of each stream; 0: about the square root of the number of videos, at
    most 256 videos in each. Fixed when the store is created."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Extractors that share a task, and so one decode of each clip; empty: all in one group."""
    ahead: int = Field(default=1, ge=0, le=1024)
    """Clips that a process prefetches: each is decoded in a thread of its own, within the limits of
    `extract.media`."""
    cluster: Cluster = Cluster()
    """Dask workers, with `--workers` or `--scheduler`."""
    media: MediaLimits = MediaLimits()
    """Where a media file may lie, and what it may cost; one over a limit fails with an error that
    names it."""
    encoder: AnyEncoder = Encoder()
    """The model that `clip`, `caption`, `text` and `concepts` share, if their sections give none; a
    sentence encoder not `clip`."""

    @model_validator(mode="before")
    @classmethod
    def _share_encoder(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "encoder" not in data:
            return data
        shared = dict(data)
        for name in registry.names():
            section = shared.get(name, {})
            own = registry.extractor_class(name).model_fields.get("encoder")
            if own is None or not isinstance(section, dict) or "encoder" in section:
                continue
            if own.annotation is not Encoder or is_open_clip(data["encoder"]):
                shared[name] = {**section, "encoder": data["encoder"]}
        return shared

    @model_validator(mode="before")
    @classmethod
    def _share_backbone(cls, data: Any) -> Any:
        """`concepts` classifies what `image` made, and so has its network."""
        image, concepts = (
            data.get(name, {}) if isinstance(data, Mapping) else None for name in (IMAGE, CONCEPTS)
        )
        if not isinstance(image, Mapping) or not isinstance(concepts, Mapping):
            return data
        own = image.get("backbone")
        if own is None or "backbone" in concepts:
            return data
        return {**data, CONCEPTS: {**concepts, "backbone": own}}

    @model_validator(mode="after")
    def _one_backbone(self) -> "_Running":
        image, concepts = (self.extractor(name).model_dump() for name in (IMAGE, CONCEPTS))
        if image["backbone"] != concepts["backbone"]:
            raise ValueError(
                f"{CONCEPTS}.backbone differs from {IMAGE}.backbone, whose features it classifies; "
                f"set {IMAGE}.backbone alone"
            )
        return self

    @model_validator(mode="after")
    def _known_names(self) -> "_Running":
        grouped = [name for group in self.groups for name in group]
        for key, named in (("extractors", self.extractors), ("groups", grouped)):
            for name in named:
                if name not in registry.names():
                    raise ValueError(
                        f"{key} name {name!r}; extractors: {', '.join(registry.names())}"
                    )
        if len(set(grouped)) != len(grouped):
            raise ValueError("an extractor is in more than one group")
        return self

    def extractor(self, name: str) -> Extractor:
        """The config of one extractor."""
        found: Extractor = getattr(self, name)
        return found


def _summary(of: type[Extractor]) -> str | None:
    return (inspect.getdoc(of) or "").partition("\n\n")[0] or None


if TYPE_CHECKING:
    ExtractConfig = _Running
else:
    # One sub-section for each registered extractor, documented by its class's first paragraph.
    ExtractConfig = create_model(
        "ExtractConfig",
        __base__=_Running,
        **{
            name: (
                registry.extractor_class(name),
                Field(
                    default_factory=lambda n=name: _default(n),
                    description=_summary(registry.extractor_class(name)),
                ),
            )
            for name in registry.names()
        },
    )


def _default(name: str) -> Extractor:
    return registry.extractor_class(name)()


def select(only: str, default: Iterable[str], imported: Iterable[str] = ()) -> tuple[str, ...]:
    """The extractors that --only names (comma-separated), in registry order; `default` for "".

    imported: further names, of imported streams in a store.
    Raises ConfigError for an unknown name.
    """
    names = tuple(dict.fromkeys([*registry.names(), *imported]))
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise ConfigError(f"--only {name}: no such extractor; known: {', '.join(names)}")
    chosen = {*wanted} or {*default}
    return tuple(name for name in names if name in chosen)
