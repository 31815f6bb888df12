"""Tables of similarity files: rows, subsets, seeds, flags, the paper's line, and equal bytes."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.errors import UsageError
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.scores.metrics import t2v_ranks, video_to_text
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.formats import FORMATS, markdown, render
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.paper import paper_result
from m2hf.fuse.tables.post_processing import PostProcessing, Ranking
from m2hf.fuse.tables.records import document, records
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.tables.table import Table
from m2hf.fuse.tables.trace import Trace
from m2hf.keys import sha256_file
from m2hf.layout import StoreLayout
from m2hf.shard import Shard

LEVELS = {
    "visual": {"stream": "frames", "fusion": "none", "enabled": True},
    "text": {"stream": "text", "fusion": "none", "enabled": True},
}


@pytest.fixture
def made() -> SimilarityFile:
    """Four captions of three videos; the third video is out of the level `text`."""
    visual = [[0.9, 0.2, 0.1], [0.3, 0.8, 0.1], [0.1, 0.6, 0.5], [0.7, 0.1, 0.0]]
    text = [[0.5, 0.1, -1.0], [0.2, 0.4, -1.0], [0.3, 0.3, -1.0], [0.1, 0.2, -1.0]]
    scores = {
        name: np.array(matrix, dtype=np.float32)
        for name, matrix in {"visual": visual, "text": text, "late_fusion": visual}.items()
    }
    return SimilarityFile(
        dataset="a|b",
        benchmark="msrvtt",
        split="test",
        manifest="1" * 64,
        checkpoint="2" * 64,
        trained_on="other",
        streams={},
        config={"levels": LEVELS, "strategy": "end_to_end", "train": {"seed": 0}},
        flags={"text": ["untrained"]},
        missing={"captions": 1, "text": 1},
        declared={"videos": 3, "captions": 4},
        query_ids=("a#0", "b#0", "c#0", "a#1"),
        video_ids=("a", "b", "c"),
        video_of_query=np.array([0, 1, 2, 0]),
        scores=scores,
        masks={"visual": np.ones(3, bool), "text": np.array([True, True, False])},
        present={"frames": np.ones(3, bool), "text": np.array([True, True, False])},
    )


Write = Callable[..., Path]


@pytest.fixture
def write(made: SimilarityFile, tmp_path: Path) -> Write:
    """Write the file with some fields changed: write("name", dataset="x")."""

    def written(name: str = "similarity", **changes: Any) -> Path:
        path = tmp_path / f"{name}.h5"
        replace(made, **changes).write(path)
        return path

    return written


def found(table: Table, name: str, direction: str = "t2v") -> dict[str, Any]:
    (row,) = [r for r in records(table) if (r["name"], r["direction"]) == (name, direction)]
    return row


def test_markdown(write: Write) -> None:
    path = write()
    text = markdown(SimilarityTable().build([path]))
    assert text == GOLDEN.format(sha256=sha256_file(path), short=sha256_file(path)[:12])


def test_every_number_is_that_of_the_metrics(made: SimilarityFile, write: Write) -> None:
    table = SimilarityTable().build([write()])
    for name, matrix in made.scores.items():
        metrics = video_to_text(matrix, made.video_of_query)
        row = found(table, name, "v2t")
        assert row["R@1"] == pytest.approx(metrics.recall[1].expected, abs=1e-6)
        assert row["R@1_worst"] == pytest.approx(metrics.recall[1].worst, abs=1e-6)
        assert row["MnR_best"] == pytest.approx(metrics.mean.best, abs=1e-6)
        assert (row["queries"], row["candidates"]) == (3, 4)
    assert found(table, "text", "v2t")["R@1"] == 75.0


def test_subsets_rank_the_same_gallery(made: SimilarityFile, write: Write) -> None:
    table = SimilarityTable().build([write()])
    for name, chosen in (("with text", [0, 1, 3]), ("without text", [2])):
        ranks = t2v_ranks(made.scores["late_fusion"], made.video_of_query)
        expected = 100 * np.mean(ranks.expected[chosen] == 1)
        row = found(table, f"late_fusion ({name})")
        assert (row["R@1"], row["queries"]) == (pytest.approx(expected), len(chosen))
        assert (row["candidates"], row["scoring"], row["subset"]) == (3, "late_fusion", name)
    assert not any("frames" in row["name"] for row in records(table))  # every video has them


def test_kinds_of_queries_get_rows_of_their_own(
    made: SimilarityFile, write: Write, tmp_path: Path
) -> None:
    path = tmp_path / "kinds.csv"
    kinds = dict(zip(made.query_ids, ("seen", "heard", "seen", "heard"), strict=True))
    lines = [f"{query},{kind}\n" for query, kind in {**kinds, "another": "free"}.items()]
    path.write_text("".join(["id,kind\n", *lines]), encoding="utf-8")
    table = SimilarityTable(kinds=QueryKinds.read(path)).build([write()])
    ranks = t2v_ranks(made.scores["late_fusion"], made.video_of_query)
    for kind, chosen in (("seen", [0, 2]), ("heard", [1, 3])):
        (row,) = [r for r in records(table) if r["name"] == f"late_fusion (kind {kind})"]
        assert row["R@1"] == pytest.approx(100 * np.mean(ranks.hit_share(1)[chosen]))
        assert (row["direction"], row["queries"], row["candidates"]) == ("t2v", 2, 3)
    assert "| T2V, kind heard   |" in markdown(table)
    assert not any("free" in row["name"] for row in records(table))
    assert "V2T, kind" not in markdown(table)
    (block,), (plain,) = (t.parts[0].blocks for t in (table, SimilarityTable().build([write()])))
    assert block.digest != plain.digest
    assert block.chain["files"] == {"query kinds": sha256_file(path)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; expected CSV with id,kind"),
        ("query,kind\n", "no column 'id'; the header is 'query,kind', expected id,kind"),
        ("", "no column 'id'; the header is '', expected id,kind"),
        ('id,kind\na,"x\n', "line 2: not CSV: unexpected end of data"),
        ("id,kind\na,x,y\n", "line 2: more fields than the 2 of the header"),
        ("id,kind\na,\udcff\n", "not UTF-8"),
        ("id,kind\na,\n", "line 2: 'a' has no kind"),
        ("id,kind\na,x\na,y\n", "line 3: 'a' occurs twice"),
        ("id,kind\na,x\n", r"no kind for query '.*' \(and 3 others\)"),
    ],
)
def test_a_malformed_kinds_file_is_refused(
    made: SimilarityFile, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "kinds.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError, match=message):
        list(QueryKinds.read(path).masks(made.query_ids))


def test_flags_go_with_the_rows_that_they_are_about(write: Write) -> None:
    table = SimilarityTable().build([write()])
    flags = {row["name"]: row["flags"] for row in records(table)}
    assert flags["visual"] == []
    assert flags["text"] == flags["late_fusion"] == ["untrained"]


def test_a_gallery_that_shrank_is_flagged_and_not_compared(write: Write) -> None:
    path = write(declared={"videos": 1000, "captions": 4})
    row = found(SimilarityTable().build([path]), "late_fusion")
    assert row["flags"] == ["untrained", "gallery smaller than the protocol's"]
    assert "difference" not in row
    few = found(
        SimilarityTable().build([write("b", declared={"videos": 3, "captions": 5})]), "text"
    )
    assert few["flags"] == ["untrained", "fewer queries than the protocol's"]
    for suffix in FORMATS:
        text = render(SimilarityTable().build([path]), suffix).replace("&#39;", "'")
        assert "3 of 1000 videos that the card declares" in text or suffix == ".json"
        assert "smaller than the protocol's" in text, suffix
        assert "untrained" in text, suffix


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"benchmark": "MSVD"}, "| M2HF (paper, MSVD) | 68.2 |"),
        ({"benchmark": "LSMDC", "split": "val"}, "M2HF (paper, LSMDC; not comparable)"),
        ({"declared": {}}, "M2HF (paper, MSR-VTT; not comparable)"),
        ({"declared": {"videos": 3, "captions": 5}}, "M2HF (paper, MSR-VTT; not comparable)"),
        ({"declared": {"videos": 4, "captions": 4}}, "M2HF (paper, MSR-VTT; not comparable)"),
        ({"declared": {"videos": 3}}, "M2HF (paper, MSR-VTT; not comparable)"),
    ],
)
def test_the_papers_line(write: Write, changes: dict[str, Any], label: str) -> None:
    table = SimilarityTable().build([write(**changes)])
    text = markdown(table)
    assert label in text
    assert ("not comparable\n" in text) == ("not comparable" in label)
    assert ("difference" in found(table, "late_fusion")) == ("not comparable" not in label)


@pytest.mark.parametrize("benchmark", ["", "own set"])
def test_a_table_of_own_data_does_not_speak_of_the_paper(write: Write, benchmark: str) -> None:
    table = SimilarityTable().build([write(benchmark=benchmark)])
    assert "paper" not in markdown(table)
    assert document(table)["parts"][0]["paper"] is None


def test_the_difference_to_the_paper(write: Write) -> None:
    table = SimilarityTable().build([write()])
    row = found(table, "late_fusion")
    assert (row["paper"], row["paper_journal"], row["difference"]) == (64.9, 66.0, 10.1)
    assert "paper" not in found(table, "late_fusion", "v2t")
    assert "paper" not in found(table, "visual")


def test_papers_numbers() -> None:
    results = {name: paper_result(name) for name in ("DiDeMo", "activitynet", "msr-vtt", "none")}
    assert results["none"] is None
    recalls = {name: result.recall for name, result in results.items() if result}
    assert recalls == {"DiDeMo": 57.1, "activitynet": 57.8, "msr-vtt": 64.9}


def test_seeds_become_a_mean_and_a_deviation(made: SimilarityFile, write: Write) -> None:
    worse = {name: matrix[::-1].copy() for name, matrix in made.scores.items()}
    config = {**made.config, "train": {"seed": 7}}
    paths = [write("one"), write("two", scores=worse, config=config)]
    alone = [found(SimilarityTable().build([path]), "late_fusion") for path in paths]
    row = found(SimilarityTable().build(paths), "late_fusion")
    values = [single["R@1"] for single in alone]
    assert row["runs"] == 2
    assert row["R@1"] == pytest.approx(np.mean(values), abs=1e-6)
    assert row["R@1_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert "R@1_sd" not in alone[0]
    text = markdown(SimilarityTable().build(paths))
    assert f"{row['R@1']:.1f} ± {row['R@1_sd']:.1f}" in text
    assert "seed 0" in text
    assert "seed 7" in text
    turned = SimilarityTable().build(paths[::-1])
    assert markdown(turned) != ""
    assert found(turned, "late_fusion") == row  # whatever order they were given in


def test_other_configs_stand_apart_and_say_what_differs(made: SimilarityFile, write: Write) -> None:
    config = {**made.config, "train": {"seed": 0, "lr": 0.5}}
    table = SimilarityTable().build([write("one"), write("two", config=config)])
    (part,) = table.parts
    assert [block.label for block in part.blocks] == [
        "end_to_end, train.lr None",
        "end_to_end, train.lr 0.5",
    ]
    other = SimilarityTable().build([write("one"), write("three", split="val")])
    assert [part.title for part in other.parts] == ["a|b test", "a|b val"]


def test_labels_head_the_blocks(made: SimilarityFile, write: Write, m2hf: Any) -> None:
    seeds = [write(f"s{n}", config={**made.config, "train": {"seed": n}}) for n in range(2)]
    other = write("other", config={**made.config, "late": {"rule": "max"}})
    table = SimilarityTable().build([*seeds, other], dict.fromkeys(seeds, "two seeds"))
    labels = [block.label for part in table.parts for block in part.blocks]
    assert labels == ["two seeds", "end_to_end, late max"]
    assert len(table.parts[0].blocks[0].rows[0].metrics["t2v"].runs) == 2
    assert [b.digest for b in table.parts[0].blocks] == [
        b.digest for b in SimilarityTable().build([*seeds, other]).parts[0].blocks
    ]
    with pytest.raises(UsageError, match=r"label 'same' .* more than the seed \(late.rule\)"):
        SimilarityTable().build([*seeds, other], dict.fromkeys([*seeds, other], "same"))

    named = [f"two seeds={path}" for path in seeds]
    shown = m2hf("tables", *named, f"max={other}")
    assert "**two seeds**" in shown.stdout
    assert "**max**" in shown.stdout
    refused = m2hf("tables", f"={other}")
    assert refused.returncode == 2
    assert "expected LABEL=FILE" in refused.stderr


def test_a_file_counts_once(write: Write) -> None:
    paths = [write("one"), write("two")]
    with pytest.raises(UsageError, match="the same file is given twice"):
        SimilarityTable().build(paths)


def test_post_processing_stands_apart_and_is_flagged(made: SimilarityFile, write: Write) -> None:
    bank = np.random.default_rng(1).random((5, 3), dtype=np.float32)
    path = write(bank={"visual": bank})
    table = SimilarityTable(PostProcessing((20.0,))).build([path])
    raw, apart = table.parts[0].blocks
    assert apart.label.endswith("transductive: queries are seen together")
    assert raw.digest == apart.digest == sha256_file(path)
    assert [row.name for row in apart.rows] == [
        "visual + dual softmax 20",
        "visual + querybank 20",
        "text + dual softmax 20",
        "late_fusion + dual softmax 20",
    ]
    assert set(apart.rows[1].metrics) == {"t2v"}  # querybank normalisation is T2V only
    rows = [row for row in records(table) if "transductive" in row["flags"]]
    assert len(rows) == 7
    assert all("+" in row["name"] for row in rows)


def test_the_group_rule(write: Write) -> None:
    row = found(SimilarityTable(ranking=Ranking(True)).build([write()]), "visual", "v2t")
    assert row["candidates"] == 3
    text = markdown(SimilarityTable(ranking=Ranking(True)).build([write()]))
    assert "a video ranks all videos by the best of their captions" in text


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_equal_files_in_another_folder_give_equal_bytes(
    write: Write, tmp_path: Path, suffix: str
) -> None:
    table = SimilarityTable(PostProcessing((20.0,)))
    copy = tmp_path / "elsewhere" / "other.h5"
    copy.parent.mkdir()
    copy.write_bytes(write().read_bytes())
    texts = [render(table.build([path]), suffix) for path in (write(), copy)]
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]


def digest_of(path: Path) -> str:
    table = SimilarityTable().build([path])
    digest = str(document(table)["parts"][0]["blocks"][0]["digest"])
    assert f": {digest[:12]}" in markdown(table)
    return digest


def test_a_shard_byte_a_caption_or_a_config_value_changes_the_digest(
    new_corpus: Callable[[Path], Any], run: Any, tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path / "store")
    shutil.copy(run.summary.checkpoint, tmp_path)

    def digest(manifest: Any) -> str:
        return digest_of(evaluate(manifest, corpus.store, tmp_path))

    before = digest(corpus.manifest)
    assert digest(corpus.manifest) == before

    rows = list(corpus.manifest.rows)
    rows[0] = rows[0].model_copy(update={"captions": ("first", "another")})  # of a training video
    assert digest(replace(corpus.manifest, rows=tuple(rows))) != before

    config = checkpoint.read_header(run.summary.checkpoint).config
    store = FeatureStore.open(corpus.store, "synthetic", config)
    model, header = checkpoint.load(run.summary.checkpoint, store)
    train = config.train.model_copy(update={"seed": 4})
    seed = replace(header, config=config.model_copy(update={"train": train}))
    checkpoint.save(tmp_path / "checkpoint.safetensors", model, seed)
    assert digest(corpus.manifest) != before
    shutil.copy(run.summary.checkpoint, tmp_path)

    layout = StoreLayout(corpus.store, "synthetic")
    path = next(layout.shards(layout.find_stream("motion")))
    unscored = next(i for i, item in enumerate(Shard.open(path).ids) if item.startswith("train"))
    place = Shard.open(path).values.offset + int(Shard.open(path).offset[unscored]) * 10 * 2
    data = bytearray(path.read_bytes())
    data[place] ^= 1  # the last bit of a value that no test score is made of
    path.write_bytes(data)
    assert digest(corpus.manifest) != before


GOLDEN = r"""### a\|b test

**Text to video**

|                       |  R@1 |         95 % |   R@5 |  R@10 |  R@50 |  RSum | MdR |  MnR | vs. paper |
| --------------------- | ---: | -----------: | ----: | ----: | ----: | ----: | --: | ---: | --------: |
| **end_to_end**        |      |              |       |       |       |       |     |      |           |
| visual                | 75.0 | 0.0 to 100.0 | 100.0 | 100.0 | 100.0 | 275.0 | 1.0 | 1.25 |           |
| text [1]              | 50.0 | 0.0 to 100.0 | 100.0 | 100.0 | 100.0 | 250.0 | 1.5 | 1.75 |           |
| late_fusion [1]       | 75.0 | 0.0 to 100.0 | 100.0 | 100.0 | 100.0 | 275.0 | 1.0 | 1.25 |     +10.1 |
| M2HF (paper, MSR-VTT) | 64.9 |              |       |       |       |       |     |      |           |

**Video to text**

|                 |                R@1 |           95 % |   R@5 |  R@10 |  R@50 |  RSum | MdR |  MnR |
| --------------- | -----------------: | -------------: | ----: | ----: | ----: | ----: | --: | ---: |
| **end_to_end**  |                    |                |       |       |       |       |     |      |
| visual          |              100.0 | 100.0 to 100.0 | 100.0 | 100.0 | 100.0 | 300.0 | 1.0 | 1.00 |
| text [1]        | 75.0 [66.7, 100.0] |  25.0 to 100.0 | 100.0 | 100.0 | 100.0 | 275.0 | 1.0 | 1.50 |
| late_fusion [1] |              100.0 | 100.0 to 100.0 | 100.0 | 100.0 | 100.0 | 300.0 | 1.0 | 1.00 |

**R@1 by subset of the queries: end_to_end**

|                   | visual |              text | late_fusion | queries |
| ----------------- | -----: | ----------------: | ----------: | ------: |
| T2V, with text    |  100.0 |              66.7 |       100.0 |       3 |
| T2V, without text |    0.0 |               0.0 |         0.0 |       1 |
| V2T, with text    |  100.0 |             100.0 |       100.0 |       2 |
| V2T, without text |  100.0 | 25.0 [0.0, 100.0] |       100.0 |       1 |

1. untrained: declared by the extractor of stream text

- 4 queries, 3 videos in the gallery; manifest 11111111
- trained on other
- no features of the caption: 1 of 4 queries
- no features: text 1 of 3 videos
- no score, so ranked last and tied: text 1 of 3 videos
- similarity sha256 {sha256} (seed 0, checkpoint 22222222)
- V2T: a video's best caption is ranked among the captions of other videos
- R@K under ties: expectation over their random order [worst, best]
- in percent: R@1 to R@50, the interval of R@1 (bootstrap over videos), and RSum = R@1 + R@5 + R@10; MdR and MnR are the median and the mean rank
- paper: T2V R@1 printed in M2HF, arXiv 2208.07664, journal version 66.0
- digest of end_to_end: {short}
"""  # noqa: E501


@pytest.mark.parametrize("suffix", [".md", ".csv", ".json"])
def test_a_row_of_several_runs_and_kinds_is_computed_again(
    made: SimilarityFile, write: Write, tmp_path: Path, suffix: str
) -> None:
    worse = {name: matrix[::-1].copy() for name, matrix in made.scores.items()}
    runs = [tmp_path / "one", tmp_path / "two"]
    for number, (run, scores) in enumerate(zip(runs, (made.scores, worse), strict=True)):
        run.mkdir()
        config = {**made.config, "train": {"seed": number}}
        replace(made, scores=scores, config=config).write(run / "similarity.h5")
    kinds = tmp_path / "kinds.csv"
    lines = "".join(f"{query},seen\n" for query in made.query_ids)
    kinds.write_text(f"id,kind\n{lines}", encoding="utf-8")
    table = SimilarityTable(kinds=QueryKinds.read(kinds), ranking=Ranking(True))
    path = tmp_path / f"t{suffix}"
    path.write_text(
        render(table.build([run / "similarity.h5" for run in runs]), suffix), encoding="utf-8"
    )
    for row in ("late_fusion", "text (kind seen)"):
        comparison = Trace.of(path, row).compare(runs[::-1], kinds)
        assert (comparison.reason, list(comparison.differences)) == ("", [])
        fewer = Trace.of(path, row).compare(runs[:1], kinds)
        assert fewer.reason
