"""The table of similarity files: levels and late fusion, subsets, seeds, and the paper's number.

numpy only. Files of one data set and split make one part. In it, runs that differ in the seed
alone make one block, whose numbers are means; other runs stand one after the other, each under
what tells it from the others. Equal files give equal tables, wherever and whenever.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2hf.array_types import BoolArray
from m2hf.errors import UsageError
from m2hf.fuse.config import CAPTIONS, LATE_FUSION
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.chain import chain_of, streams_read
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.paper import RESULTS, PaperResult, paper_result
from m2hf.fuse.tables.post_processing import APART, PostProcessing, RankedWay, Ranking, Way
from m2hf.fuse.tables.table import Block, Flag, Part, Row, Table
from m2hf.keys import SHORT, canonical_json, sha256_file, sha256_hex

SMALLER = "gallery smaller than the protocol's"
FEWER = "fewer queries than the protocol's"


@dataclass(frozen=True)
class SimilarityTable:
    """How similarity files become a table. kinds: of queries, which get rows of their own."""

    post: PostProcessing = field(default_factory=PostProcessing)
    ranking: Ranking = field(default_factory=Ranking)
    kinds: QueryKinds | None = None

    def build(self, paths: Sequence[Path]) -> Table:
        """Compute every metric; raises UsageError where one is no similarity file, or is given
        twice."""
        runs = [_Run.open(path) for path in paths]
        for place, run in enumerate(runs):
            if run.digest in [other.digest for other in runs[:place]]:
                raise UsageError(f"{run.path}: the same file is given twice; each run counts once")
        parts: dict[str, list[_Run]] = {}
        for run in runs:
            parts.setdefault(run.part_key, []).append(run)
        return Table(tuple(self._part(of) for of in parts.values()))

    def _part(self, runs: Sequence["_Run"]) -> Part:
        models: dict[str, list[_Run]] = {}
        for run in runs:
            models.setdefault(run.model_key, []).append(run)
        groups = [sorted(of, key=lambda run: (run.seed, run.digest)) for of in models.values()]
        labels = _labels([of[0].file.config for of in groups])
        blocks = [
            block
            for of, label in zip(groups, labels, strict=True)
            for block in self._blocks(of, label)
        ]
        notes = [note for run in runs for note in _notes(run)]
        first = runs[0].file
        notes.append(self.ranking.rule(len(first.query_ids), len(set(first.video_of_query))))
        return Part(
            f"{first.dataset} {first.split}",
            tuple(blocks),
            tuple(dict.fromkeys(filter(None, notes))),
            _reference(first),
        )

    def _blocks(self, runs: Sequence["_Run"], label: str) -> Iterator[Block]:
        """The scores as they are, and apart from them what post-processing makes of them."""
        file = runs[0].file
        digests = [run.digest for run in runs]
        chain: dict[str, Any] = {"runs": [chain_of(run.path, run.file) for run in runs]}
        if self.kinds is not None:
            chain["files"] = {"query kinds": self.kinds.digest}
            digests.append(self.kinds.digest)
        digest = digests[0] if len(digests) == 1 else sha256_hex(canonical_json(digests).encode())
        reference, comparable = _reference(file)
        ways = [run.ways() for run in runs]
        ranked = [self.ranking.rank(of, file.video_of_query) for of in zip(*ways, strict=True)]
        rows = [
            way.row(reference if comparable and way.name == LATE_FUSION else None) for way in ranked
        ]
        rows += _subsets(ranked, file.present)
        for kind, chosen_Q in () if self.kinds is None else self.kinds.masks(file.query_ids):
            rows += [way.kind(f"kind {kind}", chosen_Q) for way in ranked]
        yield Block(label, tuple(rows), digest, chain)
        made = [list(run.processed(self.post)) for run in runs]
        apart = [self.ranking.rank(of, file.video_of_query).row() for of in zip(*made, strict=True)]
        if apart:
            yield Block(f"{label}; {APART}" if label else APART, tuple(apart), digest, chain)


@dataclass(frozen=True, eq=False)
class _Run:
    """A similarity file and what decides where it stands."""

    path: Path
    file: SimilarityFile
    digest: str

    @classmethod
    def open(cls, path: Path) -> "_Run":
        return cls(path, SimilarityFile.read(path), sha256_file(path))

    @property
    def part_key(self) -> str:
        file = self.file
        queries = sha256_hex(canonical_json([file.query_ids, file.video_ids]).encode())
        return canonical_json([file.dataset, file.split, file.manifest, queries])

    @property
    def model_key(self) -> str:
        """Equal for runs that differ in the seed alone."""
        file = self.file
        config = _without_seed(file.config)
        return canonical_json([config, file.streams, file.trained_on, sorted(file.bank)])

    @property
    def seed(self) -> int:
        return int(self.file.config.get("train", {}).get("seed", 0))

    def ways(self) -> list[Way]:
        known = {**self.file.masks, LATE_FUSION: self.file.known_V}
        scores = self.file.scores.items()
        return [Way.raw(name, matrix, self._flags(name), known[name]) for name, matrix in scores]

    def processed(self, post: PostProcessing) -> Iterator[Way]:
        for way in self.ways():
            yield from post.ways(way, self.file.bank.get(way.name))

    def _flags(self, name: str) -> Iterator[Flag]:
        """What the streams that this row reads say of themselves, and a gallery that shrank."""
        file = self.file
        reads = streams_read(file.config, name)
        said: dict[str, list[str]] = {}
        for role, flags in file.flags.items():
            for flag in flags if reads is None or role in reads else ():
                said.setdefault(flag, []).append(role)
        for flag, roles in said.items():
            yield Flag(flag, f"says the extractor of stream {', '.join(roles)}")
        for key, have, flag in (
            ("videos", len(file.video_ids), SMALLER),
            ("captions", len(file.query_ids), FEWER),
        ):
            if have < file.declared.get(key, 0):
                yield Flag(flag, f"{have} of {file.declared[key]} {key} that the card declares")


def _subsets(ranked: Sequence[RankedWay], present: Mapping[str, BoolArray]) -> Iterator[Row]:
    """Rows of the queries whose video has a stream, and of those whose video lacks it."""
    for role, present_V in present.items():
        if present_V.all():
            continue
        for name, chosen_V in ((f"with {role}", present_V), (f"without {role}", ~present_V)):
            rows = [way.subset(name, chosen_V) for way in ranked]
            yield from (row for row in rows if row is not None)


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    train = {key: value for key, value in config.get("train", {}).items() if key != "seed"}
    return {**config, "train": train}


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each run is, and every key in which it differs from another of them."""
    flat = [dict(_flat(_without_seed(config))) for config in configs]
    keys = sorted({key for config in flat for key in config})
    main = ("strategy", "late.rule", "balance.form")
    differing = [k for k in keys if k not in main and len({str(c.get(k)) for c in flat}) > 1]
    labels = []
    for config in flat:
        parts = [str(config[key]) for key in ("strategy",) if key in config]
        parts += [f"late {config['late.rule']}"] if "late.rule" in config else []
        balance = config.get("balance.form", "none")
        parts += [f"balance {balance}"] if balance != "none" else []
        parts += [f"{key} {config.get(key)}" for key in differing]
        labels.append(", ".join(parts))
    return labels


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _reference(file: SimilarityFile) -> tuple[PaperResult, bool]:
    """The paper's number to show, and whether it was measured on the same data."""
    result = paper_result(file.benchmark)
    if result is None:
        return RESULTS[0], False
    whole = len(file.video_ids) >= file.declared.get("videos", 0)
    return result, file.split == "test" and whole


def _notes(run: _Run) -> Iterator[str]:
    file, videos = run.file, len(run.file.video_ids)
    queries = len(file.query_ids)
    yield f"{queries} queries, {videos} videos in the gallery; manifest {file.manifest[:SHORT]}"
    if file.trained_on != file.dataset:
        yield f"trained on {file.trained_on}"
    lacking = {role: count for role, count in file.missing.items() if count}
    if without_text := lacking.pop(CAPTIONS, 0):
        yield f"no features of the caption: {without_text} of {queries} queries"
    if lacking:
        yield f"no features: {_counts(lacking)} of {videos} videos"
    unknown = {name: videos - int(mask.sum()) for name, mask in file.masks.items()}
    if any(unknown.values()):
        yield f"no score, so ranked last and tied: {_counts(unknown)} of {videos} videos"
    seed = f"seed {run.seed}, " if "train" in file.config else ""
    yield f"similarity sha256 {run.digest} ({seed}checkpoint {file.checkpoint[:SHORT]})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
