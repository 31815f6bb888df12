"""From a row of a written table back to files, and the formats that can be traced."""

import html.parser
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.errors import SchemaError, UsageError
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.report.page import page as report_page
from m2hf.fuse.report.source import ReportSource
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.chain import TraceFiles
from m2hf.fuse.tables.formats import FORMATS, render
from m2hf.fuse.tables.post_processing import PostProcessing
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.tables.table import AggregateMetrics, Flag, Table, TableBlock, TablePart, TableRow
from m2hf.fuse.tables.trace import Trace
from m2hf.keys import sha256_file

TRACED = [suffix for suffix in FORMATS if suffix != ".csv"]
HOSTILE = "m2hf.table: <script>alert(1)</script> --> \\end{table} 50% & $x_1$ | `b` \u2014 *c*"


@pytest.fixture(scope="module")
def similarity(corpus: Any, run: Any) -> Path:
    return evaluate(corpus.manifest, corpus.store, run.folder)


@pytest.mark.parametrize("suffix", TRACED)
def test_the_chain_of_a_row(
    similarity: Path, corpus: Any, run: Any, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"table{suffix}"
    path.write_text(render(SimilarityTable().build([similarity]), suffix), encoding="utf-8")
    trace = Trace.of(path, "audio_visual")
    (found,) = trace.runs
    file = SimilarityFile.read(similarity)
    assert found["similarity"] == sha256_file(similarity)
    assert found["checkpoint"] == sha256_file(run.summary.checkpoint)
    assert found["manifest"] == corpus.manifest.digest
    assert found["config"] == file.config
    assert found["streams"] == file.streams
    said = "\n".join(trace.lines([{}]))
    for part in (sha256_file(similarity), file.streams["audio"]["shards"], "T2V R@1", "untrained"):
        assert part in said
    assert "stream text" not in said  # which this level does not read
    corpus.manifest.save(tmp_path / "manifest")
    files = TraceFiles((run.folder,), corpus.store, tmp_path / "manifest")
    (same,) = trace.check(files)
    assert set(same) == {"similarity", "checkpoint", "manifest", *file.streams}
    assert all(same.values())


def test_a_report_is_traced_like_a_table(
    similarity: Path, corpus: Any, run: Any, tmp_path: Path
) -> None:
    source = ReportSource.open(corpus.manifest, corpus.store, run.folder, None)
    assert [panel.title for panel in source.curves if panel.curves][:2] == [
        "training loss", "validation R@1 in %",
    ]  # fmt: skip
    written = tmp_path / "report.html"
    written.write_text(report_page(source), encoding="utf-8")
    (found,) = Trace.of(written, "audio_visual").runs
    assert found["similarity"] == sha256_file(similarity)


def test_what_differs_is_named(
    similarity: Path, new_corpus: Callable[[Path], Any], run: Any, tmp_path: Path, m2hf: Any
) -> None:
    corpus = new_corpus(tmp_path / "store")
    (tmp_path / "t.md").write_text(
        render(SimilarityTable().build([similarity]), ".md"), encoding="utf-8"
    )
    shard = next((corpus.store / "synthetic").glob("audio@*/*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x00")
    options = ("--store", corpus.store, "--run", run.folder)
    done = m2hf("trace", "t.md", "late_fusion", *options, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    differing = [line for line in done.stdout.splitlines() if "DIFFERS" in line]
    assert len(differing) == 1
    assert SimilarityFile.read(similarity).streams["audio"]["shards"] in differing[0]
    assert done.stdout.count("(matches)") == 6
    printed = m2hf("trace", "t.md", "late_fusion", *options, "--json", cwd=tmp_path)
    assert json.loads(printed.stdout)["same"][0]["audio"] is False


def test_rows_that_can_not_be_traced(similarity: Path, tmp_path: Path) -> None:
    table = SimilarityTable().build([similarity])
    path = tmp_path / "t.json"
    path.write_text(render(Table((table.parts[0], table.parts[0])), ".json"), encoding="utf-8")
    with pytest.raises(UsageError, match="no row 'late_fusio'; did you mean 'late_fusion'"):
        Trace.of(path, "late_fusio")
    with pytest.raises(UsageError, match="it has visual, audio_visual, motion_visual"):
        Trace.of(path, "zzz")
    with pytest.raises(UsageError, match=f"2 rows .* '{'visual'}@{sha256_file(similarity)[:12]}'"):
        Trace.of(path, "visual")
    with pytest.raises(UsageError, match=r"ends in \.md, \.tex, \.csv, \.json, \.html"):
        Trace.of(tmp_path / "t.txt", "visual")
    with pytest.raises(UsageError, match="No such file"):
        Trace.of(tmp_path / "none.md", "visual")
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(SchemaError, match="not a table of m2hf"):
        Trace.of(path, "visual")
    path.write_text('{"schema": "m2hf.table", "version": 9}', encoding="utf-8")
    with pytest.raises(SchemaError, match="schema version 9, this m2hf reads 1"):
        Trace.of(path, "visual")
    (tmp_path / "t.md").write_text("# no table", encoding="utf-8")
    with pytest.raises(UsageError, match="not a table of m2hf, or truncated"):
        Trace.of(tmp_path / "t.md", "visual")
    with pytest.raises(UsageError, match=r"no similarity\.h5 there; give the folder of a run"):
        TraceFiles((tmp_path,)).check({"similarity": ""})


def test_a_row_of_given_matrices(tmp_path: Path, m2hf: Any) -> None:
    np.save(tmp_path / "a.npy", np.eye(5))
    np.save(tmp_path / "b.npy", np.eye(5)[::-1])
    given = ("a=a.npy", "b=b.npy", "--fuse", "sum:a=1,b=0.5")
    assert m2hf("matrices", *given, "--out", "t.html", cwd=tmp_path).returncode == 0
    done = m2hf("trace", "t.html", "sum(a=1,b=0.5)", cwd=tmp_path)
    assert f"matrix a: sha256 {sha256_file(tmp_path / 'a.npy')}" in done.stdout
    assert "parameters from given" in done.stdout
    other = m2hf("trace", "t.html", "a", "--run", tmp_path, cwd=tmp_path)
    assert other.returncode == 2
    assert "not from a run, store or manifest" in other.stderr


def hostile() -> Table:
    from m2hf.fuse.scores.metrics import t2v_ranks

    metrics = AggregateMetrics.of([t2v_ranks(np.eye(3), np.arange(3))], 3)
    row = TableRow(HOSTILE, {"t2v": metrics, "v2t": metrics}, (Flag(HOSTILE, HOSTILE),))
    block = TableBlock(HOSTILE, (row,), "ab" * 32, {"runs": [], "files": {HOSTILE: HOSTILE}})
    return Table((TablePart(HOSTILE, (block,), (HOSTILE,)),))


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name in ("src", "href") or name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("suffix", TRACED)
def test_hostile_names_stay_text(tmp_path: Path, suffix: str) -> None:
    text = render(hostile(), suffix)
    path = tmp_path / f"t{suffix}"
    path.write_text(text, encoding="utf-8")
    assert Trace.of(path, HOSTILE).records[0]["name"] == HOSTILE
    if suffix == ".html":
        tags = _Tags()
        tags.feed(text)
        assert "script" not in tags.tags
        assert HOSTILE in tags.text
    if suffix == ".md":
        assert "<script" not in text.replace("\\<script", "")
        assert text.count("-->") == 1
    if suffix == ".tex":
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert body.count(r"\end{table}") == body.count(r"\begin{table}")
        assert r"50\% \& \$x\_1\$" in body


def test_latex_has_a_cell_for_each_column(similarity: Path) -> None:
    text = render(SimilarityTable().build([similarity]), ".tex")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 3
    table = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in table.splitlines() if " & " in line]
    assert len({line.count(" & ") for line in rows}) == 1
    assert len(rows) == 6  # head, four levels, late fusion


def written_table(folder: Path, similarity: Path, suffix: str, corpus: Any, run: Any) -> Path:
    path = folder / f"t{suffix.removeprefix('report')}"
    if suffix.startswith("report"):
        source = ReportSource.open(corpus.manifest, corpus.store, run.folder, None)
        path.write_text(report_page(source), encoding="utf-8")
    else:
        table = SimilarityTable(PostProcessing((20.0,))).build([similarity])
        path.write_text(render(table, suffix), encoding="utf-8")
    return path


ROWS = ("late_fusion", "audio_visual (with audio)", "late_fusion + dual softmax 20")


@pytest.mark.parametrize("suffix", [*FORMATS, "report.html"])
@pytest.mark.parametrize("row", ROWS)
def test_a_number_is_computed_again(
    similarity: Path, corpus: Any, run: Any, tmp_path: Path, suffix: str, row: str
) -> None:
    if suffix == "report.html" and row == ROWS[2]:
        return
    path = written_table(tmp_path, similarity, suffix, corpus, run)
    comparison = Trace.of(path, row).compare([run.folder], None)
    assert (comparison.reason, list(comparison.differences)) == ("", [])
    assert comparison.trace.runs[0]["similarity"] == sha256_file(similarity)
    alone = Trace.of(path, row).compare([], None)
    assert not alone.differences
    assert "not computed again: give --run RUN" in "\n".join(alone.lines())


def changed(text: str, start: int, end: int) -> Iterator[str]:
    """The text with each digit of a part changed, one at a time."""
    for at in range(start, end):
        if text[at].isdigit():
            yield f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}"


@pytest.mark.parametrize("suffix", [*FORMATS, "report.html"])
def test_any_digit_that_was_changed_is_found(
    similarity: Path, corpus: Any, run: Any, tmp_path: Path, suffix: str
) -> None:
    path = written_table(tmp_path, similarity, suffix, corpus, run)
    text = path.read_text(encoding="utf-8")
    row = "visual"
    parts = []
    if suffix in (".md", ".tex", ".html", "report.html"):
        opened = {".md": "| visual", ".tex": "visual"}.get(suffix, '<tr><th scope="row">visual<')
        begin = text.index(f"\n{opened}") + len(opened) + 1
        parts.append((begin, text.index("\n", begin)))
        hidden = text.index("m2hf.table: ")
        begin = text.index('"R@1":', hidden)
        parts.append((begin + 5, text.index(",", begin)))
    elif suffix == ".csv":
        begin = text.index(",visual,visual,,t2v,") + 20
        parts.append((begin, begin + 40))
    else:
        begin = text.index('"R@1": ')
        parts.append((begin + 6, text.index("\n", begin)))
    tried = 0
    for part in parts:
        for edited in changed(text, *part):
            path.write_text(edited, encoding="utf-8")
            comparison = Trace.of(path, row).compare([run.folder], None)
            assert comparison.differences, edited[part[0] : part[1]]
            tried += 1
    assert tried >= 3


def test_the_command_says_which_number_differs(
    similarity: Path, corpus: Any, run: Any, tmp_path: Path, m2hf: Any
) -> None:
    path = written_table(tmp_path, similarity, ".md", corpus, run)
    text = path.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| late_fusion"))
    recall = line.split("|")[2].strip().split()[0]
    path.write_text(text.replace(line, line.replace(recall, "99.9", 1)), encoding="utf-8")
    done = m2hf("trace", path, "late_fusion", "--run", run.folder)
    assert done.returncode == 3, done.stderr
    assert f"T2V R@1: the table prints 99.9, the files give {recall}" in done.stdout
    alone = m2hf("trace", path, "late_fusion")
    assert alone.returncode == 3
    assert f"T2V R@1: the table prints 99.9, its record gives {recall}" in alone.stdout
    path.write_text(text, encoding="utf-8")
    whole = m2hf("trace", path, "late_fusion")
    assert whole.returncode == 0
    assert "not computed again: give --run RUN" in whole.stdout
