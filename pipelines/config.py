"""The [extract] section of a recipe: how to run, and one sub-section an extractor."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, model_validator

from m2hf.config import Section
from m2hf.errors import ConfigError
from m2hf.extract import registry
from m2hf.extract.base import Extractor
from m2hf.extract.media.views import MediaLimits
from m2hf.extract.networks.encoder import Encoder


class Cluster(Section):
    """How a run deals with Dask workers.

    wait_s: how long it waits for a worker that can do its tasks, at the start and where all are
    gone, before it ends with an error; worker_ttl_s: with --workers, how long one may be silent
    before it is taken for frozen and its bucket given to another (a scheduler of your own has
    distributed.scheduler.worker-ttl for that).
    """

    wait_s: float = Field(default=300.0, ge=0.0)
    worker_ttl_s: float = Field(default=300.0, gt=0.0)


class _Running(Section):
    """How to run. None of it changes a byte of the features, but for the device.

    extractors: which run where --only names none, by default one for each part that fusion reads;
    threads: of torch in each process (1: workers are the parallelism); buckets: 0 chooses by the
    size of the set; groups: which extractors share a task and so one decode a clip, by default
    all; ahead: clips that a process decodes before they are needed, each in a thread and each
    within media's bounds; cluster: for --workers and --scheduler; encoder: the CLIP model that
    `clip`, `caption` and `text` share.
    """

    extractors: tuple[str, ...] = ("clip", "caption", "audio", "motion", "ocr", "asr", "text")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = Field(default=1, ge=1)
    buckets: int = Field(default=0, ge=0)
    groups: tuple[tuple[str, ...], ...] = ()
    ahead: int = Field(default=1, ge=0)
    cluster: Cluster = Cluster()
    media: MediaLimits = MediaLimits()
    encoder: Encoder = Encoder()

    @model_validator(mode="before")
    @classmethod
    def _share_encoder(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "encoder" not in data:
            return data
        shared = dict(data)
        for name in registry.names():
            section = shared.get(name, {})
            has_one = "encoder" in registry.extractor_class(name).model_fields
            if has_one and isinstance(section, dict) and "encoder" not in section:
                shared[name] = {**section, "encoder": data["encoder"]}
        return shared

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
            raise ValueError("an extractor is in more than one of the groups")
        return self

    def extractor(self, name: str) -> Extractor:
        """The declaration of one extractor."""
        found: Extractor = getattr(self, name)
        return found


if TYPE_CHECKING:
    ExtractConfig = _Running
else:
    # One sub-section for each extractor there is, so that a new one is configurable at once.
    ExtractConfig = create_model(
        "ExtractConfig",
        __base__=_Running,
        **{
            name: (
                registry.extractor_class(name),
                Field(default_factory=lambda n=name: _default(n)),
            )
            for name in registry.names()
        },
    )


def _default(name: str) -> Extractor:
    return registry.extractor_class(name)()


def select(only: str, default: Iterable[str], imported: Iterable[str] = ()) -> tuple[str, ...]:
    """The extractors that --only names (comma-separated), in registry order; `default` for "".

    imported: further names, of streams that a store has and no extractor made.
    Raises ConfigError for a name that there isn't.
    """
    names = tuple(dict.fromkeys([*registry.names(), *imported]))
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise ConfigError(f"--only {name}: no such extractor; known: {', '.join(names)}")
    chosen = {*wanted} or {*default}
    return tuple(name for name in names if name in chosen)
