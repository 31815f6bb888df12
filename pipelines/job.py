"""One extraction job: which features of which videos, from where to where.

A JobSpec is plain data that is sent to workers; each process opens it as a Job.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from m2hf import __version__
from m2hf.config import parse
from m2hf.errors import MismatchError, ResourceError
from m2hf.extract.base import CaptionExtractor, Extractor
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder
from m2hf.keys import canonical_json, fingerprint
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, captions_of
from m2hf.media_root import MediaRoot
from m2hf.packed_rows import RowsByBucket
from m2hf.pipelines.config import ExtractConfig
from m2hf.pipelines.heap import keep_freed_memory
from m2hf.pipelines.precision import require_bfloat16, undecided, with_choices
from m2hf.pipelines.without_weights import declared_by_store
from m2hf.streams import StreamName


@dataclass(frozen=True)
class JobSpec:
    """Paths and settings of a job, as they are sent to a worker.

    config: the canonical [extract] section; weights: the driver's folder of weights;
    fingerprints: (extractor, fingerprint) computed by the driver; environment: (library, version)
    that every worker must have, () for no requirement; chosen: (extractor, precision) that the
    store chose, and `config` has in place of "auto"; weights_may_lack: whether a job can be opened
    without weights, to read what is stored.
    """

    manifest: str
    manifest_digest: str
    media: str
    store: str
    config: str
    only: tuple[str, ...]
    weights: str
    fingerprints: tuple[tuple[str, str], ...]
    version: str = __version__
    environment: tuple[tuple[str, str], ...] = ()
    chosen: tuple[tuple[str, str], ...] = ()
    weights_may_lack: bool = False


@dataclass(frozen=True)
class Job:
    """A manifest, its media, the store, and the extractors to run. declared: extractor ->
    everything that decides its features, as it was when the job was opened; the fingerprint is
    the digest of it. lacking: extractor -> which weight file is missing, where that is allowed; its
    stream is the store's of the same settings, or one that no store has."""

    spec: JobSpec
    manifest: Manifest
    media: Path
    layout: StoreLayout
    config: ExtractConfig
    names: tuple[str, ...]
    fingerprints: Mapping[str, str]
    declared: Mapping[str, Mapping[str, Any]]
    buckets: int
    lacking: Mapping[str, str]

    @classmethod
    def prepare(
        cls,
        manifest: Path,
        media: Path,
        store: Path,
        section: Mapping[str, Any],
        only: tuple[str, ...],
        weights_may_lack: bool = False,
    ) -> "Job":
        """Validate everything before the first clip is read.

        weights_may_lack: for a job that only reads what is stored. Raises UsageError for paths that
        don't exist, ConfigError for the config, ResourceError for missing weights, MismatchError
        for a store with another number of buckets.
        """
        MediaRoot.open(media)
        loaded = Manifest.load(manifest)
        layout = StoreLayout(store, loaded.card.name)
        section, chosen = with_choices(section, only, layout, weights_may_lack)
        _manifests[loaded.digest] = loaded
        config = parse(ExtractConfig, section, "extract")
        declared, _ = _declared(config, only, layout if weights_may_lack else None)
        spec = JobSpec(
            manifest=str(manifest.absolute()),
            manifest_digest=loaded.digest,
            media=str(media.absolute()),
            store=str(store.absolute()),
            config=canonical_json(dict(section)),
            only=only,
            weights=str(WeightsFolder.default().root),
            fingerprints=tuple((n, fingerprint(d)) for n, d in declared.items()),
            chosen=tuple(chosen.items()),
            weights_may_lack=weights_may_lack,
        )
        return cls.open(spec)

    @classmethod
    def open(cls, spec: JobSpec) -> "Job":
        """The job of `spec` in this process; cached.

        Raises MismatchError where this process reads another manifest, has other weights, or
        runs another m2hf or other versions of the libraries that decide bytes.
        """
        WeightsFolder(Path(spec.weights)).adopt()
        return _open(spec)

    def for_workers(self, device: str) -> JobSpec:
        """The spec for workers: it requires `device` and this process's library versions."""
        config = {**json.loads(self.spec.config), "device": device}
        environment = tuple(sorted(self.environment().items()))
        return replace(self.spec, config=canonical_json(config), environment=environment)

    def environment(self) -> dict[str, str]:
        """Library -> version in this process, over all extractors of the job."""
        found: dict[str, str] = {}
        for name in self.names:
            found |= self.extractor(name).environment()
        return found

    @cached_property
    def rows_by_bucket(self) -> RowsByBucket:
        """Bucket -> its rows, in id order."""
        return RowsByBucket(self.manifest.rows, self.buckets)

    def extractor(self, name: str) -> Extractor:
        return self.config.extractor(name)

    def flags(self, name: str) -> tuple[str, ...]:
        """Flags of extractor and data set, which everything made of these features repeats."""
        return (*self.extractor(name).flags(), *self.manifest.card.flags.get(name, ()))

    def stream(self, name: str) -> StreamName:
        """The stream of an extractor, as folders and the ledger name it."""
        return StreamName.of(name, self.fingerprints[name])

    def shard(self, name: str, bucket: int) -> Path:
        return self.layout.shard(name, self.fingerprints[name], bucket, self.buckets)

    def items(self, name: str, bucket: int) -> list[str]:
        """Ids that this extractor makes features of: videos, or their captions."""
        rows = self.rows_by_bucket[bucket]
        if isinstance(self.extractor(name), CaptionExtractor):
            return [caption.id for caption in captions_of(rows)]
        return [row.id for row in rows]

    @property
    def undecided(self) -> tuple[str, ...]:
        """The extractors whose precision is "auto", and not measured in this store yet."""
        return undecided(self.config, self.names)

    @cached_property
    def device(self) -> str:
        if self.config.device != "auto":
            return self.config.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def configure_process(self) -> None:
        """Fix the thread count of every library, configure the allocator, and check the device.

        A sum by two threads is rounded differently than by one, and bytes must not depend on the
        process: Dask sets other defaults than a shell. The environment variables are for libraries
        that are loaded later, the limits for those that are loaded already.
        """
        import threadpoolctl

        keep_freed_memory()
        threads = self.config.threads
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(threads)
        threadpoolctl.threadpool_limits(threads)
        if any("torch" in self.extractor(name).libraries for name in self.names):
            import torch

            torch.set_num_threads(threads)
            available = {"cpu": True, "cuda": torch.cuda.is_available()}
            if not available.get(self.device, torch.backends.mps.is_available()):
                raise ResourceError(
                    f"extract.device = {self.device!r}: torch {torch.__version__} finds no such "
                    "device in this process; set it to 'auto' or 'cpu', or fix the driver"
                )
            require_bfloat16(self.config, self.names, dict(self.spec.chosen), self.device)


# By digest: what `Job.prepare` has read isn't read again to open the job.
_manifests: WeakValueDictionary[str, Manifest] = WeakValueDictionary()


@lru_cache(maxsize=4)
def _open(spec: JobSpec) -> Job:
    if spec.version != __version__:
        raise MismatchError(
            f"this worker runs m2hf {__version__}, the job was started by m2hf {spec.version}; "
            "install one version everywhere"
        )
    manifest = _manifests.get(spec.manifest_digest) or Manifest.load(Path(spec.manifest))
    if manifest.digest != spec.manifest_digest:
        raise MismatchError(f"{spec.manifest}: changed while the job was running; start it again")
    config = parse(ExtractConfig, json.loads(spec.config), "extract")
    layout = StoreLayout(Path(spec.store), manifest.card.name)
    declared, lacking = _declared(config, spec.only, layout if spec.weights_may_lack else None)
    fingerprints = {name: fingerprint(settings) for name, settings in declared.items()}
    for name, wanted in spec.fingerprints:
        if fingerprints[name] != wanted:
            raise MismatchError(
                f"{name}: this process has other weights or another config for it than the one "
                f"that started the job; run `m2hf weights check` there, or set {VARIABLE} to one "
                "folder that all processes can read"
            )
    job = Job(
        spec=spec,
        manifest=manifest,
        media=Path(spec.media),
        layout=layout,
        config=config,
        names=spec.only,
        fingerprints=fingerprints,
        declared=declared,
        buckets=layout.buckets(config.buckets, len(manifest.rows)),
        lacking=lacking,
    )
    if spec.environment:
        _check_environment(job)
    return job


def _check_environment(job: Job) -> None:
    installed = job.environment()
    wanted = job.spec.environment
    differ = [
        f"{name} {installed.get(name)}, not {version}"
        for name, version in wanted
        if installed.get(name) != version
    ]
    if differ:
        raise MismatchError(
            f"the worker on {socket.gethostname()} has {'; '.join(differ)} as the driver: "
            "features from mixed versions can't be reproduced; install the same versions everywhere"
        )


def _declared(
    config: ExtractConfig, names: tuple[str, ...], layout: StoreLayout | None
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What each extractor declares, upstream first, and which weights are missing, by extractor.

    Locates every weight file, offline. Raises ResourceError for a missing one where there is no
    `layout`, in whose streams to look for what was declared with it.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # weights are resolved before a run, never during it
    declared: dict[str, dict[str, Any]] = {}
    lacking: dict[str, str] = {}
    fingerprints: dict[str, str] = {}
    for name in with_upstream(config, names):
        extractor = config.extractor(name)
        try:
            declared[name] = extractor.declared(fingerprints)
        except ResourceError as error:
            if layout is None:
                raise
            lacking[name] = str(error)
            declared[name] = declared_by_store(layout, name, extractor.settings(fingerprints))
        fingerprints[name] = fingerprint(declared[name])
    return declared, lacking


def with_upstream(config: ExtractConfig, names: tuple[str, ...]) -> list[str]:
    """The extractors `names`, each after those whose features it reads."""
    ordered: list[str] = []
    for name in names:
        for needed in (*config.extractor(name).reads, name):
            if needed not in ordered:
                ordered.append(needed)
    return ordered
