"""The table of similarity files: levels and late fusion, subsets, seeds, and the paper's number.

numpy only. Files of one data set and split make one part. In it, runs that differ only in the seed
make one block, whose numbers are means; every other run is a block of its own. Its label is given,
or the config keys in which it differs. Equal files give equal tables, at any path and time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from m2hf.array_types import BoolArray
from m2hf.errors import UsageError
from m2hf.fuse.level_table import CAPTIONS, LATE_FUSION
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.bootstrap import LEVEL, paired_interval
from m2hf.fuse.tables.chain import chain_of, streams_read
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.labels import block_labels, without_seed
from m2hf.fuse.tables.paper import PaperResult, paper_result
from m2hf.fuse.tables.post_processing import (
    TRANSDUCTIVE_HEADING,
    NamedRanks,
    NamedScores,
    PostProcessing,
    Ranking,
)
from m2hf.fuse.tables.table import Flag, Table, TableBlock, TablePart, TableRow
from m2hf.keys import SHORT, canonical_json, sha256_file, sha256_hex

SMALLER = "gallery smaller than the protocol's"
FEWER = "fewer queries than the protocol's"
BASELINE = "baseline"

_UNLABELLED: Mapping[Path, str] = MappingProxyType({})


@dataclass(frozen=True)
class SimilarityTable:
    """How to make a table of similarity files. kinds: kinds of queries, with a row for each."""

    post: PostProcessing = field(default_factory=PostProcessing)
    ranking: Ranking = field(default_factory=Ranking)
    kinds: QueryKinds | None = None

    def build(self, paths: Sequence[Path], labels: Mapping[Path, str] = _UNLABELLED) -> Table:
        """Compute every metric. labels: of the blocks of these runs; others are labelled by config.

        Raises UsageError for a file that is no similarity file, or is given twice, and for one
        label of different models.
        """
        runs = [_Run.open(path, labels.get(path, "")) for path in paths]
        for place, run in enumerate(runs):
            if run.digest in [other.digest for other in runs[:place]]:
                raise UsageError(f"{run.path}: the same file is given twice; each run counts once")
        parts: dict[str, list[_Run]] = {}
        for run in runs:
            parts.setdefault(run.part_key, []).append(run)
        return Table(tuple(self._part(group) for group in parts.values()))

    def _part(self, runs: Sequence["_Run"]) -> TablePart:
        models: dict[str, list[_Run]] = {}
        for run in runs:
            models.setdefault(f"{run.label} {run.model_key}", []).append(run)
        groups = [
            sorted(group, key=lambda run: (run.seed, run.digest)) for group in models.values()
        ]
        configs = [without_seed(group[0].file.config) for group in groups]
        labels = block_labels([group[0].label for group in groups], configs)
        blocks: list[TableBlock] = []
        notes = [note for run in runs for note in _notes(run)]
        shown: list[NamedRanks] = []
        for group, label in zip(groups, labels, strict=True):
            ranked = self._ranked(group)
            new = [row for row in ranked if not any(_same_baseline(row, old) for old in shown)]
            blocks += self._blocks(group, label, new)
            notes += _differences(ranked, label)
            shown += new
        first = runs[0].file
        notes.append(self.ranking.rule(len(first.query_ids), len(set(first.video_of_query))))
        return TablePart(
            f"{first.dataset} {first.split}",
            tuple(blocks),
            tuple(dict.fromkeys(filter(None, notes))),
            _reference(first),
        )

    def _ranked(self, runs: Sequence["_Run"]) -> list[NamedRanks]:
        """Raw scores and baselines, row by row."""
        raw = [[*run.raw_scores(), *run.baseline_scores()] for run in runs]
        truth = runs[0].file.video_of_query
        return [self.ranking.rank(same, truth) for same in zip(*raw, strict=True)]

    def _blocks(
        self, runs: Sequence["_Run"], label: str, ranked: Sequence[NamedRanks]
    ) -> Iterator[TableBlock]:
        """A block of raw scores, then one of post-processed scores."""
        file = runs[0].file
        digests = [run.digest for run in runs]
        chain: dict[str, Any] = {"runs": [chain_of(run.path, run.file) for run in runs]}
        if self.kinds is not None:
            chain["files"] = {"query kinds": self.kinds.digest}
            digests.append(self.kinds.digest)
        digest = digests[0] if len(digests) == 1 else sha256_hex(canonical_json(digests).encode())
        reference, comparable = _reference(file) or (None, False)
        rows = [r.row(reference if comparable and r.name == LATE_FUSION else None) for r in ranked]
        rows += _subsets(ranked, file.present)
        for kind, chosen_Q in () if self.kinds is None else self.kinds.masks(file.query_ids):
            rows += [r.kind(f"kind {kind}", chosen_Q) for r in ranked]
        yield TableBlock(label, tuple(rows), digest, chain)
        processed = [list(run.processed_scores(self.post)) for run in runs]
        rows = [
            self.ranking.rank(same, file.video_of_query).row()
            for same in zip(*processed, strict=True)
        ]
        if rows:
            heading = f"{label}; {TRANSDUCTIVE_HEADING}" if label else TRANSDUCTIVE_HEADING
            yield TableBlock(heading, tuple(rows), digest, chain)


@dataclass(frozen=True, eq=False)
class _Run:
    """A similarity file, with the keys of its part and its block."""

    path: Path
    file: SimilarityFile
    digest: str
    label: str

    @classmethod
    def open(cls, path: Path, label: str) -> "_Run":
        return cls(path, SimilarityFile.read(path), sha256_file(path), label)

    @property
    def part_key(self) -> str:
        file = self.file
        queries = sha256_hex(canonical_json([file.query_ids, file.video_ids]).encode())
        return canonical_json([file.dataset, file.split, file.manifest, queries])

    @property
    def model_key(self) -> str:
        """Equal for runs that differ only in the seed."""
        file = self.file
        config = without_seed(file.config)
        extra = [sorted(file.bank), sorted(file.baselines)]
        return canonical_json([config, file.streams, file.trained_on, *extra])

    @property
    def seed(self) -> int:
        return int(self.file.config.get("train", {}).get("seed", 0))

    def raw_scores(self) -> list[NamedScores]:
        known = {**self.file.masks, LATE_FUSION: self.file.covered_V}
        scores = self.file.scores.items()
        return [
            NamedScores.raw(name, matrix, self._flags(name), known[name]) for name, matrix in scores
        ]

    def baseline_scores(self) -> Iterator[NamedScores]:
        """Zero-shot and ridge, where `m2hf eval` stored them."""
        for name, baseline in self.file.baselines.items():
            note = "zero-shot: cosine of sentence and mean frame"
            if baseline.strength is not None:
                note = (
                    f"closed-form ridge regression, strength {baseline.strength:g} chosen on "
                    f"validation, where its T2V R@1 is {baseline.val_recall:.1f}"
                )
            flags = [*self._flags(name), Flag(BASELINE, note)]
            yield NamedScores.raw(name, baseline.scores_QV, flags, baseline.valid_V)

    def processed_scores(self, post: PostProcessing) -> Iterator[NamedScores]:
        for raw in self.raw_scores():
            yield from post.apply(raw, self.file.bank.get(raw.name))

    def _flags(self, name: str) -> Iterator[Flag]:
        """Flags that the extractors of this row declare, and flags of an incomplete gallery."""
        file = self.file
        reads = streams_read(file.config, name)
        roles_of: dict[str, list[str]] = {}
        for role, flags in file.flags.items():
            for flag in flags if reads is None or role in reads else ():
                roles_of.setdefault(flag, []).append(role)
        for flag, roles in roles_of.items():
            yield Flag(flag, f"declared by the extractor of stream {', '.join(roles)}")
        for key, count, flag in (
            ("videos", len(file.video_ids), SMALLER),
            ("captions", len(file.query_ids), FEWER),
        ):
            if count < file.declared.get(key, 0):
                yield Flag(flag, f"{count} of {file.declared[key]} {key} that the card declares")


def _is_baseline(row: NamedRanks) -> bool:
    return BASELINE in [flag.name for flag in row.flags]


def _same_baseline(row: NamedRanks, other: NamedRanks) -> bool:
    """Whether both are one baseline with equal ranks: models of the same features have the same
    baselines, and a table shows them once."""
    if row.name != other.name or not _is_baseline(row):
        return False
    mine, theirs = ([run.better for run in x.ranks["t2v"]] for x in (row, other))
    return all(np.array_equal(mine[0], better) for better in (*mine, *theirs))


def _differences(ranked: Sequence[NamedRanks], label: str) -> Iterator[str]:
    """Late fusion minus each baseline, in T2V R@1 on the same queries: one line a model."""
    closed = [row for row in ranked if _is_baseline(row)]
    if not closed:
        return
    (fused,) = (row.ranks["t2v"] for row in ranked if row.name == LATE_FUSION)
    hits = [run.hit_share(1) for run in fused]
    found = []
    for row in closed:
        others = [run.hit_share(1) for run in row.ranks["t2v"]]
        mean = 100 * float(np.mean(hits) - np.mean(others))
        low, high = paired_interval(hits, others, fused[0].video)
        found.append(f"{row.name} {mean:+.1f} ({low:+.1f} to {high:+.1f})")
    yield (
        f"{label}{': ' if label else ''}{LATE_FUSION} minus baselines, T2V R@1 on the same queries "
        f"({LEVEL} % interval): {', '.join(found)}"
    )


def _subsets(ranked: Sequence[NamedRanks], present: Mapping[str, BoolArray]) -> Iterator[TableRow]:
    """Rows of the queries whose video has a stream, and of those whose video doesn't."""
    for role, present_V in present.items():
        if present_V.all():
            continue
        for name, chosen_V in ((f"with {role}", present_V), (f"without {role}", ~present_V)):
            rows = [r.subset(name, chosen_V) for r in ranked]
            yield from (row for row in rows if row is not None)


def _reference(file: SimilarityFile) -> tuple[PaperResult, bool] | None:
    """The paper's result to print, and whether it was measured on the same data: the test split
    with the counts that the card declares. None for data that the paper has no result on."""
    result = paper_result(file.benchmark)
    if result is None:
        return None
    found = {"videos": len(file.video_ids), "captions": len(file.query_ids)}
    return result, file.split == "test" and dict(file.declared) == found


def _notes(run: _Run) -> Iterator[str]:
    file, videos = run.file, len(run.file.video_ids)
    queries = len(file.query_ids)
    yield f"{queries} queries, {videos} videos in the gallery; manifest {file.manifest[:SHORT]}"
    if file.config.get("strategy") == "zero_shot":
        yield "zero-shot: nothing was trained, and the weights of levels are those of the recipe"
    if file.trained_on != file.dataset:
        yield f"trained on {file.trained_on}"
    missing = {role: count for role, count in file.missing.items() if count}
    for role in file.query_roles:
        if without_text := missing.pop(role, 0):
            of = "the caption" if role == CAPTIONS else role
            yield f"no features of {of}: {without_text} of {queries} queries"
    if missing:
        yield f"no features: {_counts(missing)} of {videos} videos"
    unknown = {name: videos - int(mask.sum()) for name, mask in file.masks.items()}
    if any(unknown.values()):
        yield f"no score, so ranked last and tied: {_counts(unknown)} of {videos} videos"
    seed = f"seed {run.seed}, " if "train" in file.config else ""
    yield f"similarity sha256 {run.digest} ({seed}checkpoint {file.checkpoint[:SHORT]})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
