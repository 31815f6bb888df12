"""The input of a report: a similarity file with its manifest, store and run, checked against each
other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.curves import Panel, panels
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.keys import SHORT, sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, captions_of
from m2hf.plain_data import read_text
from m2hf.streams import ASR, CONCEPTS, OCR, THUMBNAIL, StreamName

# Extractors whose streams are shown, in addition to scored ones.
DISPLAYED = (THUMBNAIL, OCR, ASR, CONCEPTS)


@dataclass(frozen=True, eq=False)
class ReportSource:
    """streams: the scored streams, by role; display_streams: by extractor, those of `DISPLAYED`
    that the store holds; captions: text by query id; curves: training curves, if the run has a log;
    remarks: what is missing, and the command that makes it."""

    path: Path
    file: SimilarityFile
    streams: Mapping[str, Stream]
    display_streams: Mapping[str, Stream]
    captions: Mapping[str, str]
    curves: tuple[Panel, ...]
    remarks: tuple[str, ...]

    @classmethod
    def open(cls, manifest: Manifest, store: Path, run: Path, similarity: Path | None) -> Self:
        """similarity: default RUN/similarity.h5.

        Raises MismatchError for a manifest, store or checkpoint that the similarity file was not
        computed from, UsageError for a missing or damaged file.
        """
        path = similarity or RunFolder(run).similarity
        file = SimilarityFile.read(path)
        if (file.dataset, file.manifest) != (manifest.card.name, manifest.digest):
            raise MismatchError(
                f"{path}: scores of {file.dataset}, manifest {file.manifest[:SHORT]}, but "
                f"--manifest is {manifest.card.name}, {manifest.digest[:SHORT]}; give the one that "
                "was scored, or run `m2hf eval` again"
            )
        layout = StoreLayout.open(store, file.dataset)
        streams = {role: _scored(path, file, role, layout) for role in file.streams}
        remarks: list[str] = []
        display = {name: _display_stream(file, name, layout, remarks) for name in DISPLAYED}
        captions = {c.id: c.text for c in captions_of(manifest.rows)}
        return cls(
            path=path,
            file=file,
            streams=streams,
            display_streams={name: found for name, found in display.items() if found is not None},
            captions={query: captions[query] for query in file.query_ids},
            curves=tuple(_curves(path, file, run, remarks)),
            remarks=tuple(remarks),
        )

    @property
    def flags(self) -> dict[str, tuple[str, ...]]:
        """Flags that extractors declare, by role or extractor; a page repeats them."""
        displayed = {name: stream.info.flags for name, stream in self.display_streams.items()}
        flags = {**displayed, **{role: tuple(of) for role, of in self.file.flags.items()}}
        return {name: flags[name] for name in sorted(flags) if flags[name]}


def _scored(path: Path, file: SimilarityFile, role: str, layout: StoreLayout) -> Stream:
    """The stream of a role; its items must be equal to the scored ones, byte for byte."""
    recorded = file.streams[role]
    ids: Iterable[str] = file.query_ids if role in file.query_roles else file.video_ids
    try:
        stream = Stream.open(layout, recorded["stream"])
    except UsageError as error:
        raise MismatchError(
            f"{path}: its {role} are {recorded['stream']}; {error}, or give the scored store"
        ) from error
    fingerprint, digest = recorded["fingerprint"], recorded["digest"]
    if stream.info.fingerprint != fingerprint or stream.digest(ids) != digest:
        raise MismatchError(
            f"{layout.folder}: {role} ({recorded['stream']}) is not what {path} was computed from; "
            "give the scored store, or run `m2hf eval` again"
        )
    return stream


def _display_stream(
    file: SimilarityFile, name: str, layout: StoreLayout, remarks: list[str]
) -> Stream | None:
    """The stream to show: the one that is scored or that a scored stream was derived from, else the
    only one. That a store has no concepts is no remark: they are not among the default streams."""
    stored = [stream for stream in layout.streams(name) if any(layout.shards(stream))]
    reads = (stream["config"].get("reads", {}) for stream in file.streams.values())
    wanted = {StreamName.of(name, read[name]) for read in reads if name in read}
    scored = {stream["stream"] for stream in file.streams.values()}
    wanted |= {stream for stream in stored if stream in scored}
    chosen = [stream for stream in stored if stream in wanted or not wanted]
    get = f"m2hf extract --manifest MANIFEST --media VIDEOS --store STORE --only {name}"
    if not chosen and name == CONCEPTS:
        return None
    if not chosen:
        other = " that the scores were computed from" if stored else ""
        remarks.append(f"The store has no stream {name}{other}; to make it: {get}")
        return None
    if len(chosen) > 1:
        remarks.append(f"The store has {len(chosen)} streams {name}; {chosen[0]} is shown.")
    return Stream.open(layout, chosen[0])


def _curves(path: Path, file: SimilarityFile, run: Path, remarks: list[str]) -> list[Panel]:
    """Curves of the training run that wrote the checkpoint."""
    checkpoint, log = RunFolder(run).checkpoint, RunFolder(run).log
    missing = [needed.name for needed in (checkpoint, log) if not needed.is_file()]
    if missing:
        remarks.append(f"No training curves: the run's folder has no {' and no '.join(missing)}.")
        return []
    if sha256_file(checkpoint) != file.checkpoint:
        raise MismatchError(
            f"{path}: computed with another checkpoint than {checkpoint}; run `m2hf eval` again, "
            "or give the --run of that checkpoint"
        )
    return panels(read_text(log, str(log)), str(log))
