"""Tables of retrieval metrics from similarity files, in Markdown and CSV. numpy only.

Equal files give equal bytes. A row is a level, the late fusion, or the paper's number; each
file brings its notes: what it is made of, what is missing, what to be wary of.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2hf.errors import UsageError
from m2hf.fuse.metrics import Recall, RetrievalMetrics, text_to_video, video_to_text
from m2hf.fuse.paper import RESULTS, SOURCE, PaperResult, paper_result
from m2hf.fuse.similarity import SimilarityFile
from m2hf.keys import SHORT, sha256_file

KS = (1, 5, 10)


@dataclass(frozen=True)
class TableRow:
    """One line: `name` is a level, the fusion or the paper; the paper has R@1 alone."""

    name: str
    t2v: RetrievalMetrics | None = None
    v2t: RetrievalMetrics | None = None
    paper: PaperResult | None = None


@dataclass(frozen=True)
class TablePart:
    """The rows of one similarity file, and the notes that belong to all of them."""

    title: str
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One part a file, in the order given."""

    parts: tuple[TablePart, ...]


def build(files: Sequence[Path]) -> Table:
    """Compute every metric of `files`; raises UsageError where one is not a similarity file."""
    return Table(tuple(_part(path) for path in files))


def render(table: Table, suffix: str) -> str:
    """The table as text of the kind that files with `suffix` hold; raises UsageError for others."""
    if suffix not in RENDERERS:
        raise UsageError(f"no table format {suffix!r}; there is {', '.join(RENDERERS)}")
    return RENDERERS[suffix](table)


def _part(path: Path) -> TablePart:
    file = SimilarityFile.read(path)
    rows = [
        TableRow(
            name,
            text_to_video(matrix, file.video_of_query),
            video_to_text(matrix, file.video_of_query),
        )
        for name, matrix in file.scores.items()
    ]
    reference, comparable = _reference(file)
    label = f"M2HF (paper, {reference.benchmark}{'' if comparable else '; not comparable'})"
    return TablePart(
        title=f"{file.dataset} {file.split}",
        rows=(*rows, TableRow(label, paper=reference)),
        notes=tuple(_notes(path, file, rows, reference, comparable)),
    )


def _reference(file: SimilarityFile) -> tuple[PaperResult, bool]:
    """The paper's number to show, and whether it was measured on the same data."""
    result = paper_result(file.benchmark)
    return (RESULTS[0], False) if result is None else (result, file.split == "test")


def _notes(
    path: Path,
    file: SimilarityFile,
    rows: Sequence[TableRow],
    reference: PaperResult,
    comparable: bool,
) -> list[str]:
    videos = len(file.video_ids)
    notes = [
        f"{len(file.query_ids)} queries, {videos} videos in the gallery; "
        f"similarity sha256 {sha256_file(path)}, checkpoint {file.checkpoint[:SHORT]}, "
        f"manifest {file.manifest[:SHORT]}"
    ]
    notes += [
        f"stream {role}: {', '.join(flags)}, says its extractor"
        for role, flags in file.flags.items()
    ]
    if file.trained_on != file.dataset:
        notes.append(f"trained on {file.trained_on}")
    for role, count in file.missing.items():
        if count:
            of = f"{len(file.query_ids)} queries" if role == "captions" else f"{videos} videos"
            notes.append(f"stream {role}: missing for {count} of {of}")
    for name, mask in file.masks.items():
        if not mask.all():
            notes.append(
                f"level {name}: no score for {videos - int(mask.sum())} of {videos} videos, "
                "which rank last and tied"
            )
    if any(_tied(row) for row in rows):
        notes.append("R@K under ties: expectation over their random order [worst, best]")
    where = "" if comparable else "; other data than ours, so the numbers are not comparable"
    notes.append(
        f"paper: T2V R@1 printed in {SOURCE}, journal version {reference.journal:.1f}{where}"
    )
    return notes


def _tied(row: TableRow) -> bool:
    return any(m is not None and any(m.recall[k].tied for k in KS) for m in (row.t2v, row.v2t))


def _markdown(table: Table) -> str:
    directions = [f"{way} {what}" for way in ("T2V", "V2T") for what in _columns()]
    lines = []
    for part in table.parts:
        lines += [f"### {_escape(part.title)}", ""]
        lines += ["| | " + " | ".join(directions) + " | queries | gallery |"]
        lines += ["|---|" + "---:|" * (len(directions) + 2)]
        for row in part.rows:
            cells = [_escape(row.name), *_cells(row)]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *(f"- {_escape(note)}" for note in part.notes), ""]
    return "\n".join(lines)


def _columns() -> list[str]:
    return [*(f"R@{k}" for k in KS), "MdR", "MnR"]


def _cells(row: TableRow) -> list[str]:
    if row.t2v is None or row.v2t is None:
        recall = "" if row.paper is None else f"{row.paper.recall:.1f}"
        return [recall, *[""] * (2 * len(_columns()) + 1)]
    cells = []
    for metrics in (row.t2v, row.v2t):
        cells += [_recall(metrics.recall[k]) for k in KS]
        cells += [f"{metrics.median_rank:.1f}", f"{metrics.mean_rank:.2f}"]
    return [*cells, str(row.t2v.queries), str(row.t2v.candidates)]


def _recall(recall: Recall) -> str:
    tie = f" [{recall.worst:.1f}, {recall.best:.1f}]" if recall.tied else ""
    return f"{recall.expected:.1f}{tie}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _csv(table: Table) -> str:
    stem = [f"r{k}{end}" for k in KS for end in ("", "_worst", "_best")] + ["mdr", "mnr"]
    numbers = [f"{way}_{name}" for way in ("t2v", "v2t") for name in stem]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", "row", *numbers, "queries", "gallery", "notes"])
    for part in table.parts:
        for row in part.rows:
            writer.writerow(
                [part.title, row.name, *_numbers(row, len(stem)), "; ".join(part.notes)]
            )
    return text.getvalue()


def _numbers(row: TableRow, width: int) -> list[str]:
    if row.t2v is None or row.v2t is None:
        recall = "" if row.paper is None else f"{row.paper.recall:.4f}"
        return [recall, *[""] * (2 * width + 1)]
    values: list[float] = []
    for metrics in (row.t2v, row.v2t):
        for k in KS:
            recall_at = metrics.recall[k]
            values += [recall_at.expected, recall_at.worst, recall_at.best]
        values += [metrics.median_rank, metrics.mean_rank]
    return [*(f"{value:.4f}" for value in values), str(row.t2v.queries), str(row.t2v.candidates)]


RENDERERS: dict[str, Callable[[Table], str]] = {".md": _markdown, ".csv": _csv}
