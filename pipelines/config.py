"""The [extract] section of a recipe: how to run, one sub-section for each extractor, and one for
each instance: an extractor with other settings under a name of the recipe's own.

[extract.caption_sentence]
extractor = "caption"
encoder = {kind = "sentence"}
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from m2hf.config import Section
from m2hf.errors import ConfigError
from m2hf.extract import registry
from m2hf.extract.base import Extractor
from m2hf.extract.media.views import MediaLimits
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.joint_space import AnyEncoder, is_open_clip
from m2hf.plain_data import shown
from m2hf.streams import is_extractor_name


class Cluster(Section):
    """Dask workers, with `--workers` or `--scheduler`."""

    wait_s: float = Field(default=300.0, ge=0.0, le=1e7)
    """Seconds to wait for a worker that can run the tasks, at the start and after the last such
    worker has gone, before the run ends with an error."""
    worker_ttl_s: float = Field(default=300.0, gt=0.0, le=1e7)
    """Seconds without a heartbeat after which a worker of `--workers` counts as frozen and its
    bucket goes to another one. An external scheduler has distributed.scheduler.worker-ttl
    instead."""


_KIND = "extractor"  # the key by which a section is that of an instance


def _instance(section: Any) -> Any:
    if isinstance(section, Mapping) and _KIND in section:
        return _instance_class(_kind(section)).model_validate(section)
    raise ValidationError.from_exception_data(
        "instance", [{"type": "extra_forbidden", "input": section}]
    )


def _kind(section: Mapping[str, Any]) -> str:
    kind = section[_KIND]
    if kind not in registry.names():
        raise ValueError(f"{_KIND} = {shown(kind)}; expected one of {', '.join(registry.names())}")
    return str(kind)


@cache
def _instance_class(kind: str) -> type[Extractor]:
    """The extractor with the key by which a recipe chooses it, which is no part of what it
    declares: an instance has the fingerprint of the extractor with the same settings."""
    chosen = Field(exclude=True, description="The extractor that this section has settings of.")
    cls: type[Extractor] = create_model(
        f"{kind}_instance",
        __base__=registry.extractor_class(kind),
        **{_KIND: (Literal[kind], chosen)},  # type: ignore[call-overload]
    )
    return cls


class _Running(Section):
    """How to run extraction. Apart from device and encoder, none of it changes the features."""

    model_config = ConfigDict(extra="allow")
    if not TYPE_CHECKING:  # mypy takes it for a field
        __pydantic_extra__: dict[str, Annotated[Extractor, BeforeValidator(_instance)]]

    extractors: tuple[str, ...] = ("clip", "caption", "audio", "motion", "ocr", "asr", "text")
    """Extractors and instances of them to run where `--only` names none: by default one for each
    stream of fusion."""
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
    """The model that `clip`, `caption` and `text` share, if their sections give none; a sentence
    encoder only `caption` and `text`."""

    @model_validator(mode="before")
    @classmethod
    def _share_encoder(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "encoder" not in data:
            return data
        shared = dict(data)
        kinds = {name: name for name in registry.names()} | dict(_instances(data))
        for name, kind in kinds.items():
            section = shared.get(name, {})
            own = registry.extractor_class(kind).model_fields.get("encoder")
            if own is None or not isinstance(section, dict) or "encoder" in section:
                continue
            if own.annotation is not Encoder or is_open_clip(data["encoder"]):
                shared[name] = {**section, "encoder": data["encoder"]}
        return shared

    @model_validator(mode="before")
    @classmethod
    def _names_of_instances(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name, _ in _instances(data):
                if name in cls.model_fields:
                    raise ValueError(
                        f"{name} = {{{_KIND} = ...}}: {name!r} is a key of extract already; give "
                        "the instance a name of its own"
                    )
                if not is_extractor_name(name):
                    raise ValueError(
                        f"{shown(name)} is no name of an instance: it has lower-case letters, "
                        "digits and _, and starts with a letter"
                    )
        return data

    @model_validator(mode="after")
    def _known_names(self) -> "_Running":
        grouped = [name for group in self.groups for name in group]
        known = self.names
        for key, named in (("extractors", self.extractors), ("groups", grouped)):
            for name in named:
                if name not in known:
                    raise ValueError(f"{key} name {name!r}; extractors: {', '.join(known)}")
        if len(set(grouped)) != len(grouped):
            raise ValueError("an extractor is in more than one group")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All extractors, each followed by its instances, and after those whose features it
        reads."""
        instances = {name: self.extractor(name).name for name in sorted(self.model_extra or {})}
        return tuple(
            name
            for kind in registry.names()
            for name in (kind, *(name for name, of in instances.items() if of == kind))
        )

    def extractor(self, name: str) -> Extractor:
        """The config of one of `names`."""
        instances: Mapping[str, Extractor] = self.model_extra or {}
        found: Extractor = instances[name] if name in instances else getattr(self, name)
        return found


def _instances(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and extractor of each section of an instance; one of no extractor is left out."""
    for name, section in data.items():
        if isinstance(section, Mapping) and section.get(_KIND) in registry.names():
            yield name, section[_KIND]


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


def select(
    only: str, default: Iterable[str], known: Iterable[str], stored: Iterable[str] = ()
) -> tuple[str, ...]:
    """The extractors that --only names (comma-separated), in the order of `known`; `default` for
    "".

    known: those of a recipe; stored: further names, of streams in a store. Raises ConfigError for
    an unknown name.
    """
    names = tuple(dict.fromkeys([*known, *stored]))
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise ConfigError(f"--only {name}: no such extractor; known: {', '.join(names)}")
    chosen = {*wanted} or {*default}
    return tuple(name for name in names if name in chosen)
