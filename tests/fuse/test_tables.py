"""Tables: golden text of a hand-made file, and the paper's line beside ours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2hf.errors import UsageError
from m2hf.fuse import tables
from m2hf.fuse.paper import paper_result
from m2hf.fuse.similarity import SimilarityFile
from m2hf.keys import sha256_file


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
        config={},
        flags={"text": ["untrained"]},
        missing={"captions": 0, "text": 1},
        query_ids=("a#0", "b#0", "c#0", "a#1"),
        video_ids=("a", "b", "c"),
        video_of_query=np.array([0, 1, 2, 0]),
        scores=scores,
        masks={"visual": np.ones(3, bool), "text": np.array([True, True, False])},
    )


def test_markdown(made: SimilarityFile, tmp_path: Path) -> None:
    path = tmp_path / "similarity.h5"
    made.write(path)
    assert tables.render(tables.build([path]), ".md") == GOLDEN.format(sha256=sha256_file(path))


def test_csv_has_the_same_numbers(made: SimilarityFile, tmp_path: Path) -> None:
    path = tmp_path / "similarity.h5"
    made.write(path)
    header, visual, text, fused, paper = tables.render(tables.build([path]), ".csv").splitlines()
    names = header.split(",")
    assert names[:5] == ["data", "row", "t2v_r1", "t2v_r1_worst", "t2v_r1_best"]
    assert visual.split(",")[:5] == ["a|b test", "visual", "75.0000", "75.0000", "75.0000"]
    assert fused.split(",")[2:] == visual.split(",")[2:]
    row = dict(zip(names, text.split(","), strict=False))
    assert (row["v2t_r1"], row["v2t_r1_worst"], row["v2t_r1_best"]) == (
        "75.0000", "66.6667", "100.0000"
    )  # fmt: skip
    assert (row["queries"], row["gallery"]) == ("4", "3")
    assert "untrained" in text
    assert sha256_file(path) in text
    assert '"M2HF (paper, MSR-VTT)"' in paper


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"benchmark": "MSVD"}, "M2HF (paper, MSVD) | 68.2"),
        ({"benchmark": ""}, "M2HF (paper, MSR-VTT; not comparable) | 64.9"),
        ({"benchmark": "own set"}, "M2HF (paper, MSR-VTT; not comparable) | 64.9"),
        ({"benchmark": "LSMDC", "split": "val"}, "M2HF (paper, LSMDC; not comparable) | 33.2"),
    ],
)
def test_the_papers_line(
    made: SimilarityFile, tmp_path: Path, changes: dict[str, str], label: str
) -> None:
    replace(made, **changes).write(tmp_path / "s.h5")  # type: ignore[arg-type]
    text = tables.render(tables.build([tmp_path / "s.h5"]), ".md")
    assert label in text
    assert ("not comparable\n" in text) == ("not comparable" in label)


def test_papers_numbers() -> None:
    found = {name: paper_result(name) for name in ("DiDeMo", "activitynet", "msr-vtt", "none")}
    assert found["none"] is None
    recalls = {name: result.recall for name, result in found.items() if result}
    assert recalls == {"DiDeMo": 57.1, "activitynet": 57.8, "msr-vtt": 64.9}


def test_several_files_keep_their_order(made: SimilarityFile, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.h5" for name in ("one", "two")]
    for path in paths:
        replace(made, dataset=path.stem).write(path)
    text = tables.render(tables.build(paths), ".md")
    assert text.index("### one test") < text.index("### two test")


def test_an_unknown_format_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'\.pdf'; there is \.md, \.csv"):
        tables.render(tables.Table(()), ".pdf")


GOLDEN = r"""### a\|b test

| | T2V R@1 | T2V R@5 | T2V R@10 | T2V MdR | T2V MnR | V2T R@1 | V2T R@5 | V2T R@10 | V2T MdR | V2T MnR | queries | gallery |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| visual | 75.0 | 100.0 | 100.0 | 1.0 | 1.25 | 100.0 | 100.0 | 100.0 | 1.0 | 1.00 | 4 | 3 |
| text | 50.0 | 100.0 | 100.0 | 1.5 | 1.75 | 75.0 [66.7, 100.0] | 100.0 | 100.0 | 1.0 | 1.50 | 4 | 3 |
| late_fusion | 75.0 | 100.0 | 100.0 | 1.0 | 1.25 | 100.0 | 100.0 | 100.0 | 1.0 | 1.00 | 4 | 3 |
| M2HF (paper, MSR-VTT) | 64.9 |  |  |  |  |  |  |  |  |  |  |  |

- 4 queries, 3 videos in the gallery; similarity sha256 {sha256}, checkpoint 22222222, manifest 11111111
- stream text: untrained, says its extractor
- trained on other
- stream text: missing for 1 of 3 videos
- level text: no score for 1 of 3 videos, which rank last and tied
- R@K under ties: expectation over their random order [worst, best]
- paper: T2V R@1 printed in M2HF, arXiv 2208.07664, journal version 66.0
"""  # noqa: E501
