"""The oddities of the official files that docs/benchmarks.md counts, counted again."""

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest


@pytest.fixture
def annotations(shared_data: Path) -> Path:
    return shared_data / "annotations"


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [row[name] for row in csv.DictReader(stream)]


def repeats(values: list[Any]) -> int:
    return len(values) - len(set(values))


def test_msrvtt(annotations: Path) -> None:
    folder = annotations / "msrvtt"
    infos = [read(folder / f"{part}_videodatainfo.json.gz") for part in ("train_val", "test")]
    pairs = [[(s["video_id"], s["caption"]) for s in info["sentences"]] for info in infos]
    assert [repeats(part) for part in pairs] == [10380, 4252]
    source = {clip["video_id"]: clip["url"] for info in infos for clip in info["videos"]}
    test = column(folder / "MSRVTT_JSFUSION_test.csv", "video_id")
    queries = column(folder / "MSRVTT_JSFUSION_test.csv", "sentence")
    shared = {}
    for size in ("7k", "9k"):
        trained = {source[clip] for clip in column(folder / f"MSRVTT_train.{size}.csv", "video_id")}
        shared[size] = sum(source[clip] in trained for clip in test)
    assert shared == {"7k": 0, "9k": 372}
    parts = [{clip["url"] for clip in info["videos"]} for info in infos]
    assert not parts[0] & parts[1]
    published = set(pairs[1])
    assert sum(pair not in published for pair in zip(test, queries, strict=True)) == 35
    assert sorted(n for n in Counter(queries).values() if n > 1) == [2, 2, 2, 3]


def test_msvd(annotations: Path) -> None:
    captions = read(annotations / "msvd" / "captions_msvd.json.gz")
    lists = {
        s: (annotations / "msvd" / f"{s}_list.txt").read_text().split()
        for s in ("train", "val", "test")
    }
    pairs = [(video, text) for video in lists["test"] for text in captions[video]]
    assert (len(pairs), repeats(pairs)) == (27763, 3730)
    videos = Counter(text for _, text in set(pairs))
    assert sum(videos[text] > 1 for _, text in pairs) == 4372
    sources = {split: {v.rsplit("_", 2)[0] for v in listed} for split, listed in lists.items()}
    assert len(sources["train"] & sources["val"]) == 1
    assert not sources["test"] & (sources["train"] | sources["val"])


def test_lsmdc(annotations: Path) -> None:
    path = annotations / "lsmdc" / "LSMDC16_challenge_1000_publictect.csv.gz"
    clips = [
        line.split("\t")[0] for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]
    assert "1012_Unbreakable_00.05.16.065-00.05.21.941" in clips
    assert {clip[0] for clip in clips} == {"1", "3"}


@pytest.mark.parametrize(
    ("split", "videos", "described", "moved"), [("val", 29, 71, 905), ("test", 33, 89, 860)]
)
def test_didemo(annotations: Path, split: str, videos: int, described: int, moved: int) -> None:
    moments: dict[str, list[tuple[float, float, int]]] = {}
    for entry in read(annotations / "didemo" / f"{split}_data.json.gz"):
        starts, ends = zip(*entry["times"], strict=True)
        key = (median(starts), median(ends), entry["annotation_id"])
        moments.setdefault(entry["video"], []).append(key)
    listed = set((annotations / "didemo" / f"{split}_list.txt").read_text().split())
    other = set(moments) - listed
    assert (len(other), sum(len(moments[video]) for video in other)) == (videos, described)
    assert {v.rsplit(".", 1)[0] for v in other} <= {v.rsplit(".", 1)[0] for v in listed}
    assert sum(moments[video] != sorted(moments[video]) for video in listed) == moved


@pytest.mark.parametrize(("name", "moved", "flat"), [("train", 245, 4), ("val_1", 131, 0)])
def test_activitynet(annotations: Path, name: str, moved: int, flat: int) -> None:
    videos = read(annotations / "activitynet" / f"{name}.json.gz")
    times = {video: entry["timestamps"] for video, entry in videos.items()}
    assert sum(t != sorted(t, key=lambda pair: pair[0]) for t in times.values()) == moved
    assert sum(end <= start for t in times.values() for start, end in t) == flat
    late = [end - videos[v]["duration"] for v, t in times.items() for _, end in t]
    assert max(late) == pytest.approx(0.01)
    listed = (annotations / "activitynet" / f"{name}_list.txt").read_text().split()
    assert ("v_0dkIbKXXFzI" in videos) == (name == "val_1")
    assert "v_0dkIbKXXFzI" not in listed
