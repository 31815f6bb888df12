"""The benchmark on real features, on small folders of the same form."""

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from benchmarks.real import two_tower
from benchmarks.real.__main__ import main
from benchmarks.real.folder import FeatureFolder
from benchmarks.real.report import as_json, markdown
from benchmarks.real.run import Fold, Outcome, Run

from m2hf.errors import UsageError
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.manifest import Card, Manifest, Row, Split

VIDEOS, WIDTH = 40, 16
SPLITS: tuple[Split, ...] = ("train", "train", "train", "val", "test")
QUICK = ("fuse.train.epochs=1", "fuse.model.width=16", "fuse.model.heads=2")


def folder(root: Path, streams: Sequence[str], folds: int = 1) -> Path:
    """Streams that show what a video's caption says; each fold tests on other videos."""
    rng = np.random.default_rng(0)
    names = [f"v{i}" for i in range(VIDEOS)]
    seen = rng.normal(size=(VIDEOS, WIDTH))
    root.mkdir()
    for stream in streams:
        mixed = seen @ rng.normal(size=(WIDTH, 8)) if stream != "frames" else seen
        with h5py.File(root / f"{stream}.h5", "w") as file:
            for name, row in zip(names, mixed, strict=True):
                file[name] = (row + 0.1 * rng.normal(size=(2, len(row)))).astype(np.float16)
    sentences = (seen @ rng.normal(size=(WIDTH, 12)) + 0.2 * rng.normal(size=(VIDEOS, 12))).astype(
        np.float32
    )
    np.savez(root / "captions.npz", ids=[f"{name}#0" for name in names], sentence=sentences)
    (root / "README.md").write_text("not a part of the data")
    for fold in range(folds):
        rows = tuple(
            Row(id=name, path=name, split=SPLITS[(i + fold) % 5], captions=(f"caption {i}",))
            for i, name in enumerate(names)
        )
        place = root / ("manifest" if folds == 1 else f"folds/{fold}")
        Manifest(Card(name="tiny", protocol="one_caption"), rows).save(place)
    return root


def run(data: Path, *arguments: str) -> int:
    quick = [part for setting in QUICK for part in ("--set", setting)]
    return main(["--data", str(data), *quick, *arguments])


def test_one_stream_and_two_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert run(folder(tmp_path / "data", ["cnn"]), "--seeds", "2", "--json", str(out)) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert list(written["rows"]) == ["ridge", "two-tower", "visual", "default"]
    assert written["runs"] == [{"manifest": "manifest", "seed": seed} for seed in (0, 1)]
    for row in written["rows"].values():
        assert [len(row[name]) for name in ("R@1", "R@5", "R@10", "seconds")] == [2, 2, 2, 2]
        assert all(a <= b <= 100 for a, b in zip(row["R@1"], row["R@5"], strict=True))
    assert len(set(written["rows"]["ridge"]["R@1"])) == 1  # a seed doesn't change it
    assert min(written["rows"]["ridge"]["R@1"]) > 40  # chance is 12.5
    printed = capsys.readouterr().out
    assert "| ridge | " in printed
    assert "data; " in printed


def test_folds_and_further_streams(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    data = folder(tmp_path / "data", ["frames", "depth"], folds=2)
    assert run(data, "--seeds", "1", "--json", str(out)) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    levels = ["visual", "depth_visual"]
    ridges = ["ridge", *(f"ridge_{name}" for name in levels)]
    fused = ["ensemble", "end_to_end", "default"]
    assert list(written["rows"]) == [*ridges, "two-tower", *levels, *fused]
    assert [made["manifest"] for made in written["runs"]] == ["folds/0", "folds/1"]
    rows = written["rows"]
    assert rows["default"]["R@1"] == rows["end_to_end"]["R@1"]  # the default strategy
    assert rows["ridge"]["R@10"][0] > 0


def labels(root: Path, clips: int = 54, classes: int = 6, folds: int = 3) -> Path:
    """Two experts with one row a clip, which know half of the classes each; a caption is the name
    of a class, so that many clips have the same. A tenth of the clips has no sound."""
    rng = np.random.default_rng(1)
    names = [f"clip{i:02d}" for i in range(clips)]
    label = np.arange(clips) % classes
    root.mkdir()
    for stream, known in (("scene", label // 2), ("sound", label % 2)):
        looks = 2 * rng.normal(size=(classes, WIDTH))
        with h5py.File(root / f"{stream}.h5", "w") as file:
            for i, name in enumerate(names):
                if stream == "scene" or i % 10:
                    file[name] = (looks[known[i]] + rng.normal(size=WIDTH))[None].astype(np.float16)
    words = rng.normal(size=(classes, 12)).astype(np.float32)
    np.savez(root / "captions.npz", ids=[f"{name}#0" for name in names], sentence=words[label])
    for fold in range(folds):
        place = {fold: "test", (fold + 1) % folds: "val"}
        rows = tuple(
            Row(
                id=name,
                path=name,
                split=place.get(i // classes % folds, "train"),
                captions=(f"class {label[i]}",),
            )
            for i, name in enumerate(names)
        )
        Manifest(Card(name="labels", protocol="one_caption"), rows).save(root / f"fold{fold}")
    return root


def test_a_label_a_clip_two_experts_and_several_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    data = labels(tmp_path / "data")
    assert run(data, "--seeds", "1", "--json", str(out)) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    rows, recalls = written["rows"], ("R@1", "R@5", "R@10")
    assert len(written["runs"]) == 3
    total = {name: sum(np.mean(row[recall]) for recall in recalls) for name, row in rows.items()}
    assert total["ridge"] > total["ridge_visual"] + 20  # the sound tells what the scene does not
    assert total["default"] > total["ridge_visual"] + 20
    for other in ("ridge", "two-tower"):
        difference = written["default_minus"][other]
        low, high = difference["interval"]
        assert difference["R@1 + R@5 + R@10"] == pytest.approx(
            total["default"] - total[other], abs=0.01
        )
        assert low < difference["R@1 + R@5 + R@10"] < high
    assert "default minus ridge, R@1 + R@5 + R@10: " in capsys.readouterr().out


def test_the_difference_of_a_failed_training_is_left_out() -> None:
    hits = Outcome(np.ones((3, 2)))
    rows = {"ridge": hits, "two-tower": hits, "default": Outcome(failed="diverged")}
    written = as_json("data", [Run("manifest", 0, ("a", "b"), rows)])
    assert written["default_minus"] == {"ridge": None, "two-tower": None}
    assert "default minus" not in markdown(written)


def test_seeds_of_a_fold_that_is_going_on_wait_for_the_others() -> None:
    def outcome(found: float) -> Outcome:
        return Outcome(np.full((3, 2), found))

    def of(fold: int, seed: int, found: float) -> Run:
        rows = {"ridge": outcome(0.0), "two-tower": outcome(0.5), "default": outcome(found)}
        return Run(f"fold{fold}", seed, (f"a{fold}", f"b{fold}"), rows)

    done = [of(0, 0, 0.2), of(0, 1, 0.4)]
    assert as_json("data", done)["default_minus"]["ridge"]["R@1 + R@5 + R@10"] == 90
    assert as_json("data", [*done, of(1, 0, 0.4)])["default_minus"]["ridge"] == {
        "R@1 + R@5 + R@10": 90,
        "interval": [60.0, 120.0],
    }


def test_streams_that_share_the_space_of_captions_are_not_projected(tmp_path: Path) -> None:
    found = FeatureFolder.of(folder(tmp_path / "data", ["clip", "text", "depth"]), "clip")
    config = found.config(3, ["clip"], QUICK)
    assert config.train.seed == 3
    assert config.project == ("text",)
    assert config.streams["frames"] == "clip"
    assert list(config.active_levels) == ["visual", "text", "depth_visual"]
    assert config.active_levels["depth_visual"].fusion == "aligned"
    assert found.config(0, [], ()).project == ("frames", "text")
    with pytest.raises(UsageError, match="--shared nosuch: no such stream; there are clip, depth"):
        found.config(0, ["nosuch"], ())


def test_what_lacks_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(data: Path) -> str:
        assert run(data) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err

    assert "no such folder" in refused(tmp_path / "nosuch")
    data = folder(tmp_path / "data", ["one"])
    (data / "captions.npz").rename(data / "sentences.npz")
    assert "expected captions.npz or captions.h5, found neither" in refused(data)
    (data / "sentences.npz").rename(data / "captions.npz")
    (data / "one.h5").unlink()
    assert "no stream in it" in refused(data)
    (data / "manifest" / "card.toml").unlink()
    assert "no manifest" in refused(data)


def test_a_split_without_captions_is_one_line(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", ["one"])
    manifest = Manifest.load(data / "manifest")
    silent = (row.model_copy(update={"captions": ()}) for row in manifest.split("val"))
    rows = (*manifest.split("train"), *silent, *manifest.split("test"))
    Manifest(manifest.card, rows).save(data / "manifest")
    found = FeatureFolder.of(data)
    fold = Fold(found, data / "manifest", tmp_path)
    assert fold.skipped == {"caption": 8}
    with pytest.raises(UsageError, match="split val: none of its 8 videos has a caption"):
        fold.closed_form(found.config(0, [], ()))


def test_the_stream_of_frames_is_found_by_its_name(tmp_path: Path) -> None:
    for streams, frames in (
        (["audio", "cnn", "frames"], "frames"),
        (["audio", "clip", "cnn"], "clip"),
        (["audio", "places", "scenes"], "places"),
        (["audio"], "audio"),
    ):
        data = folder(tmp_path / "-".join(streams), streams)
        assert FeatureFolder.of(data).frames == frames
        assert FeatureFolder.of(data, streams[-1]).frames == streams[-1]
    with pytest.raises(UsageError, match="--frames nosuch: no such stream; there are audio"):
        FeatureFolder.of(data, "nosuch")


def test_a_failed_training_leaves_the_other_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "data", ["frames"])
    rates = (
        "lr=1e6",
        "scalar_lr_factor=1e6",
        "weight_decay=1e6",
        "warmup=0",
        "epochs=9",
        "patience=9",
    )
    wild = [x for rate in rates for x in ("--set", f"fuse.train.{rate}")]
    assert run(data, "--seeds", "1", *wild) == 1
    printed = capsys.readouterr()
    assert "| visual | failed |" in printed.out
    assert "failed: default-0: Diverged: " in printed.err


def part(seed: int, videos: int, rng: np.random.Generator) -> PooledSplit:
    seen = np.random.default_rng(seed).normal(size=(videos, WIDTH))
    queries = seen @ rng.normal(size=(WIDTH, WIDTH))
    return PooledSplit(
        queries_QD=queries / np.linalg.norm(queries, axis=1, keepdims=True),
        present_Q=np.arange(videos) != 1,
        video_of_query=np.arange(videos),
        pooled={"frames": seen, "audio": np.zeros((videos, 3))},
        present={"frames": np.arange(videos) != 2, "audio": np.zeros(videos, dtype=np.bool_)},
    )


def test_the_two_tower_learns_and_ranks_what_is_missing_last() -> None:
    made = [
        part(seed, videos, np.random.default_rng(9)) for seed, videos in enumerate((2000, 40, 40))
    ]
    scores_QV = two_tower.two_tower_scores(made[0], made[1], made[2], seed=0, threads=1)
    assert text_to_video(scores_QV, made[2].video_of_query).recall[5].expected > 80  # chance: 12.5
    assert (scores_QV[1] == -1).all()
    assert (scores_QV[:, 2] == -1).all()
    again = two_tower.two_tower_scores(made[0], made[1], made[2], seed=0, threads=1)
    np.testing.assert_array_equal(scores_QV, again)


def test_the_loss_of_the_two_tower_against_loops() -> None:
    torch.manual_seed(0)
    model = two_tower._TwoTower(5, 4).eval()
    queries_QD, videos_VX = torch.randn(3, 4), torch.randn(2, 5)
    own = [0, 1, 1]
    with torch.no_grad():
        logits = (model.log_scale.exp() * model(queries_QD, videos_VX)).double().numpy()
        found = float(model.loss(queries_QD, videos_VX, torch.tensor(own)))
    to_video = [
        -np.log(np.exp(row[v]) / np.exp(row).sum()) for row, v in zip(logits, own, strict=True)
    ]
    to_text = [
        np.mean([-np.log(np.exp(logits[q, v]) / np.exp(logits[:, v]).sum())
                 for q in range(3) if own[q] == v])
        for v in range(2)
    ]  # fmt: skip
    assert found == pytest.approx((np.mean(to_video) + np.mean(to_text)) / 2, rel=1e-5)
