"""Given matrices: ground truth, blends, tuning, querybanks, and input that is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.cli.matrices import matrices
from m2hf.errors import UsageError
from m2hf.fuse.scores.late_rules import LATE_RULES, TRAINED, Calibration
from m2hf.fuse.scores.metrics import t2v_ranks, text_to_video
from m2hf.fuse.tables.given.blend import Blend, Term
from m2hf.fuse.tables.given.ground_truth import GroundTruthFiles
from m2hf.fuse.tables.given.tuning import tune

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good matrices and a worse one, of 40 texts and 40 videos, and validation matrices."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    for part in ("", "val_"):
        for name, noise in (("a", 0.35), ("b", 0.45), ("c", 1.5)):
            scores = np.eye(40) + noise * rng.normal(size=(40, 40))
            np.save(f"{part}{name}.npy", scores.astype(np.float32))
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Rows that `m2hf matrices --json` prints, by default of the matrices a and b."""

    def rows(*names: str, **options: Any) -> Rows:
        given = [f"{name}={name}.npy" for name in names or ("a", "b")]
        matrices(**{"matrix": given, "json": True} | options)
        found: Rows = json.loads(capsys.readouterr().out)
        return found

    return rows


def recall(rows: Rows, name: str, direction: str = "t2v") -> float:
    (row,) = [r for r in rows if (r["name"], r["direction"]) == (name, direction)]
    return float(row["R@1"])


def refused(**options: Any) -> str:
    with pytest.raises(UsageError) as error:
        matrices(**{"matrix": ["a=a.npy", "b=b.npy"]} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_raw_rows_in_both_directions(run: Any) -> None:
    rows = run()
    assert [(row["name"], row["direction"]) for row in rows] == [
        ("a", "t2v"), ("a", "v2t"), ("b", "t2v"), ("b", "v2t"),
    ]  # fmt: skip
    expected = text_to_video(np.load("a.npy"), np.arange(40)).recall[1].expected
    assert recall(rows, "a") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("q.txt", "{numbers}", False),
        ("q.json", "[{commas}]", False),
        ("q.json", "[{quoted}]", True),
        ("q.txt", "{names}", True),
        ("q.csv", "query_id,video_id\n{pairs}", True),
    ],
)
def test_queries_say_which_column_each_row_belongs_to(
    run: Any, name: str, text: str, ids: bool
) -> None:
    own = np.random.default_rng(4).permutation(40)
    np.save("moved.npy", np.load("a.npy")[own])
    filled = text.format(
        numbers="\n".join(map(str, own)),
        commas=", ".join(map(str, own)),
        names="\n".join(f"v{i}" for i in own),
        quoted=", ".join(f'"v{i}"' for i in own),
        pairs="\n".join(f"q{row},v{i}" for row, i in reversed(list(enumerate(own)))),
    )
    Path(name).write_text(filled, encoding="utf-8")
    Path("videos.txt").write_text("\n".join(f"v{i}" for i in range(40)), encoding="utf-8")
    Path("texts.json").write_text(json.dumps([f"q{i}" for i in range(40)]), encoding="utf-8")
    options = {"queries": Path(name), "query_ids": Path("texts.json")}
    options |= {"video_ids": Path("videos.txt")} if ids else {}
    assert recall(run("moved", **options), "moved") == recall(run(), "a")


def test_several_texts_a_video(run: Any) -> None:
    np.save("wide.npy", np.repeat(np.load("a.npy"), 2, axis=0))
    assert "80 rows and 40 columns: row i can't belong to column i" in refused(
        matrix=["wide=wide.npy"]
    )
    Path("q.txt").write_text("\n".join(str(i // 2) for i in range(80)), encoding="utf-8")
    rows = run("wide", queries=Path("q.txt"))
    assert recall(rows, "wide") == recall(run(), "a")
    assert [(row["queries"], row["candidates"]) for row in rows] == [(80, 40), (40, 80)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.txt", "0\n1", "q.txt: 2 entries for 40 rows"),
        ("q.json", "{", "q.json: not JSON"),
        ("q.json", "[1.5]", "expected a JSON list of numbers or of ids"),
        ("q.json", "[" * 100_000, "q.json: not JSON that can be read: nested too deep"),
        ("q.json", f"[{'9' * 5000}]", "q.json: not JSON"),
        ("q.txt", f"{'9' * 5000}\n" * 40, "of 40; numbers start at 0"),
        ("q.csv", f"video_id\n{'9' * 200_000}", "line 2: not CSV: field larger than"),
        ("q.csv", "video_id\n1,2", "line 2: more fields than the 1 of the header"),
        ("q.csv", "a,b\n1,2", "q.csv: no column 'video_id'"),
        ("q.txt", "40\n" * 40, "entry 1: column 40 of 40; numbers start at 0"),
        ("q.txt", "v1\n" * 40, "entry 1: 'v1' is not a column number"),
        ("q.txt", "0\n\n" * 20, "q.txt, line 2: empty"),
        ("q.csv", "query_id,video_id\nx,1\nx,2", "query 'x' occurs more than once"),
        ("nosuch.txt", None, "nosuch.txt: No such file"),
    ],
)
def test_queries_that_do_not_fit(name: str, text: str | None, message: str) -> None:
    if text is not None:
        Path(name).write_text(text, encoding="utf-8")
    assert message in refused(queries=Path(name))


def test_ids_that_do_not_fit() -> None:
    Path("videos.txt").write_text("v\n" * 40, encoding="utf-8")
    assert "id 'v' occurs more than once" in refused(video_ids=Path("videos.txt"))
    Path("videos.txt").write_text("v\nw", encoding="utf-8")
    assert "2 ids for 40 columns" in refused(video_ids=Path("videos.txt"))
    Path("videos.csv").write_text(
        "video_id\n" + "\n".join(f"v{i}" for i in range(40)), encoding="utf-8"
    )
    Path("q.txt").write_text("v40\n" * 40, encoding="utf-8")
    given = {"queries": Path("q.txt"), "video_ids": Path("videos.csv")}
    assert "entry 1: video 'v40' is not one of --video-ids" in refused(**given)
    Path("texts.txt").write_text("\n".join(f"t{i}" for i in range(40)), encoding="utf-8")
    Path("q.csv").write_text("query_id,video_id\nt0,0\nt77,1", encoding="utf-8")
    given = {"queries": Path("q.csv"), "query_ids": Path("texts.txt")}
    assert "query 't77' is not one of --query-ids" in refused(**given)
    Path("q.csv").write_text("query_id,video_id\nt0,0\nt1,1", encoding="utf-8")
    assert "no entry for query 't10' of --query-ids" in refused(**given)


def test_matrices_that_are_refused() -> None:
    np.save("objects.npy", np.array([[{}]]), allow_pickle=True)
    Path("text.npy").write_text("1 2 3", encoding="utf-8")
    np.savez("zip.npy.npz", a=np.eye(2))
    Path("zip.npy.npz").rename("zip.npy")
    np.save("flat.npy", np.zeros(4))
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("small.npy", np.eye(39))
    bad = np.load("a.npy")
    bad[3, 7] = np.nan
    np.save("nan.npy", bad)
    bad[3, 7] = np.inf
    np.save("inf.npy", bad)
    for name, message in {
        "objects": "matrix x=objects.npy: not a readable array file",
        "text": "not a readable array file",
        "zip": "not a readable array file",
        "flat": "float64 of shape (4,); expected numbers in two dimensions",
        "words": "expected numbers in two dimensions",
        "nosuch": "matrix x=nosuch.npy: No such file",
        "nan": "matrix x=nan.npy: row 3, column 7 is NaN; every score must be finite",
        "inf": "row 3, column 7 is inf",
    }.items():
        assert message in refused(matrix=[f"x={name}.npy"]), name
    assert "small: 39 x 39, but a is 40 x 40" in refused(matrix=["a=a.npy", "small=small.npy"])
    Path("videos.txt").write_text("\n".join(f"v{i}" for i in range(40)), encoding="utf-8")
    named = {"matrix": ["x=nan.npy"], "video_ids": Path("videos.txt")}
    assert "row 3, column 7 (video v7) is NaN" in refused(**named)


def test_command_lines_that_are_refused() -> None:
    assert "expected NAME=FILE.npy" in refused(matrix=["a.npy"])
    assert "'a' is given twice" in refused(matrix=["a=a.npy", "a=b.npy"])
    assert "expected a number above 0" in refused(dsl=[-1.0])
    assert "no table format '.pdf'; formats are .md, .tex" in refused(out=Path("t.pdf"))
    assert "no rule 'som'; rules are affine" in refused(fuse=["som"])
    assert "no matrix 'z'; given are a, b" in refused(fuse=["sum:z=1"])
    assert "each name once" in refused(fuse=["sum:a=1,a=2"])
    assert "'x' is not a number" in refused(fuse=["sum:a=x,b=1"])
    assert "a weight is 0 or more" in refused(fuse=["sum:a=-1,b=1"])
    assert "for every matrix, or for none" in refused(fuse=["sum:a=1,b"])
    assert "max takes no weights" in refused(fuse=["max:a=1,b=2"])
    assert "--fuse z_sum needs a centre and a deviation of each matrix" in refused(fuse=["z_sum"])
    assert "--tune-on-test sets parameters of --fuse RULE" in refused(tune_on_test=True)
    assert "exclude each other" in refused(
        fuse=["sum"], tune_on_test=True, val_matrix=["a=val_a.npy"]
    )
    assert "no --val-matrix b=FILE" in refused(fuse=["sum"], val_matrix=["a=val_a.npy"])
    same = ["a=a.npy", "b=b.npy"]
    assert "the same file content as matrix a" in refused(fuse=["sum"], val_matrix=same)
    assert "belongs to --val-matrix" in refused(fuse=["sum"], val_queries=Path("q"))
    assert "no matrix of that name" in refused(qb=["z=a.npy"])


def test_validation_queries_are_named_in_messages() -> None:
    Path("q.txt").write_text("0\n1", encoding="utf-8")
    given = {"val_matrix": ["a=val_a.npy"], "val_queries": Path("q.txt")}
    assert refused(fuse=["sum:a"], **given).startswith("--val-queries q.txt: 2 entries for 40")


def test_the_verbs_take_one_kind_of_input_each(m2hf: Any) -> None:
    done = m2hf("tables", "--matrix", "a=a.npy")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option: --matrix" in done.stderr
    assert m2hf("matrices").returncode == 2
    assert m2hf("tables").returncode == 2


@pytest.mark.parametrize("rule", list(LATE_RULES))
def test_every_rule_is_that_of_late_fusion(run: Any, rule: str) -> None:
    rows = run(fuse=[rule], val_matrix=["a=val_a.npy", "b=val_b.npy"])
    (row,) = [r for r in rows if r["name"].startswith(rule) and r["direction"] == "t2v"]
    if rule in ("sum", *TRAINED):
        assert row["flags"] == ["weights tuned on validation"]
        assert row["R@1"] >= max(recall(rows, "a"), recall(rows, "b"))
        return
    scores = np.stack([np.load("a.npy"), np.load("b.npy")]).astype(np.float64)
    known = np.ones((2, 40), bool)
    by = Calibration.of(np.stack([np.load("val_a.npy"), np.load("val_b.npy")]), known)
    expected = LATE_RULES[rule](scores, known, by)
    assert row["R@1"] == pytest.approx(text_to_video(expected, np.arange(40)).recall[1].expected)


def test_weights_from_a_file(run: Any) -> None:
    Path("w.json").write_text('{"a": 0.5, "b": 0.25, "z": 1}', encoding="utf-8")
    (row,) = [r for r in run(fuse=["sum"], weights=Path("w.json")) if r["name"][:3] == "sum"][:1]
    assert (row["name"], row["flags"]) == ("sum(a=0.5,b=0.25)", ["weights given"])
    assert row["R@1"] == recall(run(fuse=["sum:a=0.5,b=0.25"]), "sum(a=0.5,b=0.25)")
    terms = "[a]\nweight = 2\ncentre = 0.1\ndeviation = 0.5\nbias = 1\n[b]\nweight = 0.5\n"
    Path("w.toml").write_text(terms, encoding="utf-8")
    rows = run(fuse=["affine"], weights=Path("w.toml"))
    a, b = (np.load(f"{name}.npy").astype(np.float64) for name in "ab")
    expected = text_to_video(2 * (a - 0.1) / 0.5 + 0.5 * b, np.arange(40)).recall[1].expected
    assert recall(rows, "affine(a,b)") == pytest.approx(expected)
    for text, message in {
        '{"a": 1}': "no entry for matrix 'b'",
        '{"a": "x"}': "expected a number or a table",
        '{"a": {"wait": 1}}': "did you mean 'weight'?",
        "[]": "expected a JSON object, got []",
        "{}": "expected a table",
        "{": "w.json: not JSON",
        "[" * 100_000: "nested too deep",
        '{"a": 1e999}': "beyond the range of a float",
        '{"a": 1, "a": 1}': "key 'a' occurs twice",
    }.items():
        Path("w.json").write_text(text, encoding="utf-8")
        assert message in refused(fuse=["sum"], weights=Path("w.json"))


def test_a_sum_without_weights_is_plain_and_never_tuned_in_silence(run: Any) -> None:
    rows = run(fuse=["sum"])
    a, b = np.load("a.npy").astype(np.float64), np.load("b.npy").astype(np.float64)
    expected = text_to_video(a + b, np.arange(40)).recall[1].expected
    assert recall(rows, "sum(a,b)") == pytest.approx(expected)
    assert [r["flags"] for r in rows if r["name"] == "sum(a,b)"] == [[], []]
    tuned = run(fuse=["sum"], tune_on_test=True)
    assert tuned[-1]["flags"] == ["weights tuned on test"]


def test_tuning_is_the_best_of_the_grid() -> None:
    scores = {name: np.load(f"{name}.npy") for name in "ab"}
    found = tune(Blend.parse("sum", ["a", "b"]), scores, np.arange(40), "validation")
    wide = [matrix.astype(np.float64) for matrix in scores.values()]

    def quality(step: int) -> tuple[float, float]:
        ranks = t2v_ranks(step / 100 * wide[0] + (100 - step) / 100 * wide[1], np.arange(40))
        return ranks.recall(1).expected, sum(ranks.recall(k).expected for k in (1, 5, 10))

    weight = found.terms["a"].weight
    assert quality(round(100 * weight)) == max(quality(step) for step in range(101))
    assert found.terms["b"].weight == pytest.approx(1 - weight)


def test_tuning_three_is_no_worse_than_any_alone_or_all_alike() -> None:
    scores = {name: np.load(f"{name}.npy") for name in "abc"}
    blend = Blend.parse("sum", list(scores))
    found = tune(blend, scores, np.arange(40), "validation")
    assert sum(term.weight for term in found.terms.values()) == pytest.approx(1)

    def quality(blend: Blend) -> float:
        return t2v_ranks(blend.apply(scores), np.arange(40)).recall(1).expected

    others = [blend.with_terms({n: Term(weight=n == m) for n in scores}, "given") for m in scores]
    assert quality(found) >= max(quality(other) for other in [blend, *others])


def test_a_querybank_row(run: Any) -> None:
    np.save("bank.npy", np.random.default_rng(3).random((25, 40)))
    rows = run(qb=["a=bank.npy"], qb_scale=5.0)
    (row,) = [r for r in rows if "querybank" in r["name"]]
    assert (row["name"], row["direction"]) == ("a + querybank 5", "t2v")
    assert row["flags"] == ["transductive"]
    np.save("bank.npy", np.zeros((25, 39)))
    assert "39 columns; expected training queries against the 40 videos" in refused(
        qb=["a=bank.npy"]
    )


def test_matrices_are_mapped_and_ids_are_kept() -> None:
    from m2hf.fuse.tables.given.matrices import GivenMatrices

    given = GivenMatrices.open({"a": Path("a.npy")}, GroundTruthFiles())
    assert isinstance(given.scores["a"], np.memmap)
    assert given.ground_truth.cell(1, 2) == "row 1, column 2"
