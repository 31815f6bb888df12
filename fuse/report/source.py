"""What a report is made of: a similarity file, its manifest, store and run, and that they belong
together.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.config import CAPTIONS
from m2hf.fuse.curves import Panel, panels
from m2hf.fuse.features.store import Stream
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.keys import SHORT, sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, captions_of
from m2hf.streams import ASR, OCR, THUMBNAIL, StreamName

READ, HEARD = OCR, ASR  # the extractors whose strings a page shows
SHOWN = (THUMBNAIL, READ, HEARD)  # streams beside those that are scored


@dataclass(frozen=True, eq=False)
class Source:
    """All of it, opened. streams: by role, what was scored; beside: by extractor, what a page
    shows and the store has of `SHOWN`; captions: text by query id; curves: of the training, where
    the run has them; remarks: what is missing, and how to get it."""

    path: Path
    file: SimilarityFile
    streams: Mapping[str, Stream]
    beside: Mapping[str, Stream]
    captions: Mapping[str, str]
    curves: tuple[Panel, ...]
    remarks: tuple[str, ...]

    @classmethod
    def open(cls, manifest: Manifest, store: Path, run: Path, similarity: Path | None) -> Self:
        """similarity: run/similarity.h5 where none is given.

        Raises MismatchError where manifest, store or checkpoint are not those of the similarity
        file, UsageError for a file that is missing or damaged.
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
        beside = {name: _beside(file, name, layout, remarks) for name in SHOWN}
        captions = {c.id: c.text for c in captions_of(manifest.rows)}
        return cls(
            path=path,
            file=file,
            streams=streams,
            beside={name: stream for name, stream in beside.items() if stream is not None},
            captions={query: captions[query] for query in file.query_ids},
            curves=tuple(_curves(path, file, run, remarks)),
            remarks=tuple(remarks),
        )

    @property
    def flags(self) -> dict[str, tuple[str, ...]]:
        """By role or extractor, what must be repeated with whatever is shown of it."""
        shown = {name: stream.info.flags for name, stream in self.beside.items()}
        flags = {**shown, **{role: tuple(said) for role, said in self.file.flags.items()}}
        return {name: flags[name] for name in sorted(flags) if flags[name]}


def _scored(path: Path, file: SimilarityFile, role: str, layout: StoreLayout) -> Stream:
    """The stream of a role, which holds what the scores were made of, to the byte."""
    said = file.streams[role]
    ids: Iterable[str] = file.query_ids if role == CAPTIONS else file.video_ids
    try:
        stream = Stream.open(layout, said["stream"])
    except UsageError as error:
        raise MismatchError(
            f"{path}: its {role} are {said['stream']}; {error}, or give the store that was scored"
        ) from error
    same = stream.info.fingerprint == said["fingerprint"] and stream.digest(ids) == said["digest"]
    if not same:
        raise MismatchError(
            f"{layout.folder}: {role} ({said['stream']}) is not what {path} was made from; give "
            "the store that was scored, or run `m2hf eval` again"
        )
    return stream


def _beside(
    file: SimilarityFile, name: str, layout: StoreLayout, remarks: list[str]
) -> Stream | None:
    """A stream to show: the one that a scored stream was made from, else the one that there is."""
    have = [stream for stream in layout.streams(name) if any(layout.shards(stream))]
    reads = (stream["config"].get("reads", {}) for stream in file.streams.values())
    wanted = {StreamName.of(name, read[name]) for read in reads if name in read}
    chosen = [stream for stream in have if stream in wanted or not wanted]
    get = f"m2hf extract --manifest MANIFEST --media VIDEOS --store STORE --only {name}"
    if not chosen:
        other = " that the scores were made from" if have else ""
        remarks.append(f"The store has no stream {name}{other}: {get}")
        return None
    if len(chosen) > 1:
        remarks.append(f"The store has {len(chosen)} streams {name}; shown is {chosen[0]}.")
    return Stream.open(layout, chosen[0])


def _curves(path: Path, file: SimilarityFile, run: Path, remarks: list[str]) -> list[Panel]:
    """Of the training that gave the checkpoint."""
    checkpoint, log = RunFolder(run).checkpoint, RunFolder(run).log
    lacking = [needed.name for needed in (checkpoint, log) if not needed.is_file()]
    if lacking:
        remarks.append(f"No training curves: the run's folder has no {' and no '.join(lacking)}.")
        return []
    if sha256_file(checkpoint) != file.checkpoint:
        raise MismatchError(
            f"{path}: made with another checkpoint than {checkpoint}; run `m2hf eval` again, or "
            "give the --run that made it"
        )
    try:
        return panels(log.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{log}: {error}; restore the file, or move it away") from error
