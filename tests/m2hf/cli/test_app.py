"""The command as a user meets it: bad input is one line that says what to do, never a traceback."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import media
import pytest

from m2hf.cli import app as command_line

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def refused(done: "subprocess.CompletedProcess[str]", code: int = 2) -> str:
    """The one line that a refused command says."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.startswith("m2hf: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("m2hf: ").strip()


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory, m2hf: Command) -> Path:
    """Videos, captions and a manifest."""
    folder = tmp_path_factory.mktemp("set-up")
    (folder / "videos").mkdir()
    names = [f"v{i}" for i in range(6)]
    for i, name in enumerate(names):
        media.good(folder / "videos" / f"{name}.mp4", seconds=1, tone=300 + 100 * i)
    lines = [f"{name},clip number {i},{split(i)}" for i, name in enumerate(names)]
    (folder / "captions.csv").write_text("\n".join(["id,caption,split", *lines]), encoding="utf-8")
    made = m2hf("manifest", "from-folder", folder / "videos", *captions(folder), *out(folder))
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[:3] == [
        "train: 3 videos, 3 captions",
        "val: 1 videos, 1 captions",
        "test: 2 videos, 2 captions",
    ]
    return folder


def split(i: int) -> str:
    return ("train", "train", "train", "val", "test", "test")[i]


def captions(folder: Path) -> tuple[str, Path]:
    return "--captions", folder / "captions.csv"


def out(folder: Path, name: str = "manifest") -> tuple[str, Path]:
    return "--out", folder / name


def paths(folder: Path, **other: Path) -> list[object]:
    named = {"manifest": folder / "manifest", "media": folder / "videos", "store": folder / "store"}
    return [part for name, path in (named | other).items() for part in (f"--{name}", path)]


def test_an_unknown_config_key(set_up: Path, m2hf: Command, tiny: tuple[str, ...]) -> None:
    done = m2hf("plan", *paths(set_up), *tiny, "--set", "extract.ocr.canvass=3")
    assert refused(done) == "config: unknown key 'extract.ocr.canvass'; did you mean 'canvas'?"
    done = m2hf("plan", *paths(set_up), "--set", "extrct.threads=3")
    assert refused(done) == "config: unknown key 'extrct'; did you mean 'extract'?"
    done = m2hf("train", *run(set_up), "--set", "fuse.train.lrr=1")
    assert refused(done) == "config: unknown key 'fuse.train.lrr'; did you mean 'lr'?"


def run(folder: Path, name: str = "run") -> list[object]:
    return ["--manifest", folder / "manifest", "--store", folder / "store", "--run", folder / name]


def test_paths_that_are_not_there(set_up: Path, m2hf: Command, tiny: tuple[str, ...]) -> None:
    none = set_up / "none"
    assert "no such folder; give the root of the video files" in refused(
        m2hf("extract", *paths(set_up, media=none), *tiny)
    )
    assert "no card.toml there; make one with" in refused(
        m2hf("extract", *paths(set_up, manifest=none), *tiny)
    )
    assert "no such file, and no recipe of that name; shipped: activitynet, demo" in refused(
        m2hf("extract", *paths(set_up), "--config", "demoo")
    )
    assert "the store has no streams yet" in refused(
        m2hf("train", "--manifest", set_up / "manifest", "--store", none, "--run", none)
    )


def test_an_unknown_extractor_and_options_that_exclude_each_other(
    set_up: Path, m2hf: Command
) -> None:
    assert refused(m2hf("plan", *paths(set_up), "--only", "clip,ocd")).startswith(
        "--only ocd: no such extractor; known: clip, caption"
    )
    done = m2hf("extract", *paths(set_up), "--workers", 2, "--array", "0/2")
    assert refused(done) == "--workers, --scheduler and --array exclude each other; give one"
    done = m2hf("extract", *paths(set_up), "--array", "3/2")
    assert refused(done) == "--array 3/2: expected i/n with 0 <= i < n, such as 0/8 .. 7/8"


def test_a_manifest_with_a_duplicate_id(
    set_up: Path, m2hf: Command, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    shutil.copytree(set_up / "manifest", tmp_path / "manifest")
    rows = tmp_path / "manifest" / "rows.jsonl"
    rows.write_text(rows.read_text() + rows.read_text().splitlines()[0] + "\n", encoding="utf-8")
    done = m2hf("plan", *paths(set_up, manifest=tmp_path / "manifest"), *tiny)
    assert "id 'v0' occurs more than once; ids must be unique" in refused(done)


def test_a_caption_for_an_unknown_id(set_up: Path, m2hf: Command, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("id,caption\nv9,a word\n", encoding="utf-8")
    done = m2hf("manifest", "from-folder", set_up / "videos", *captions(tmp_path), *out(tmp_path))
    assert "line 2: a caption for id 'v9', but no video file has that name" in refused(done)


def test_missing_weights(set_up: Path, m2hf: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(set_up / "nobody"))
    monkeypatch.delenv("HF_HOME", raising=False)
    line = refused(m2hf("extract", *paths(set_up), "--only", "clip"), code=1)
    assert line.startswith("weights ViT-B-32/openai (600 MB) are not on this machine; ")
    assert "extract.encoder.pretrained" in line


def test_an_unknown_flag_and_verb_are_usage_errors(m2hf: Command) -> None:
    assert m2hf("plan", "--canvas", 3).returncode == 2
    assert m2hf("plam").returncode == 2
    assert m2hf("--version").stdout.startswith("m2hf 0.")


WEIGHTLESS = ("--set", "fuse.streams.audio=logmel", "--set", "fuse.streams.motion=flow")
FUSION = (*WEIGHTLESS, "--set", "fuse.model.width=16", "--set", "fuse.model.heads=2")
SMALL = (*FUSION, "--set", "fuse.levels.text.enabled=false", "--set", "fuse.train.epochs=2")


def test_from_videos_to_a_table(set_up: Path, m2hf: Command, tiny: tuple[str, ...]) -> None:
    only = ("--only", "clip,caption,logmel,flow")
    assert m2hf("extract", *paths(set_up), *tiny, *only).returncode == 0
    trained = m2hf("train", *run(set_up), *SMALL)
    assert trained.returncode == 0, trained.stderr
    assert "trained on 3 captions of 3 videos" in trained.stdout
    assert m2hf("eval", *run(set_up)).returncode == 0
    similarity = set_up / "run" / "similarity.h5"
    printed = m2hf("tables", similarity)
    assert "| late_fusion [1] " in printed.stdout
    assert "untrained" in printed.stdout
    assert m2hf("tables", similarity, "--out", set_up / "t.md").returncode == 0
    written = (set_up / "t.md").read_text(encoding="utf-8")
    assert written.startswith(printed.stdout)  # and below it what a trace needs, unseen
    traced = m2hf("trace", set_up / "t.md", "late_fusion", "--run", set_up / "run")
    assert traced.stdout.count("(matches)") == 2
    assert m2hf("tables", similarity, "--out", set_up / "t.csv").returncode == 0
    assert "late_fusion" in (set_up / "t.csv").read_text(encoding="utf-8")
    assert ".md" in refused(m2hf("tables", similarity, "--out", set_up / "t.xyz"))


def test_a_checkpoint_whose_features_do_not_fit(
    set_up: Path, m2hf: Command, tiny: tuple[str, ...]
) -> None:
    only = ("--only", "clip,caption,logmel,flow")
    other = {"store": set_up / "other"}
    assert m2hf("extract", *paths(set_up), *tiny, *only).returncode == 0
    assert m2hf("train", *run(set_up, "fits"), *SMALL).returncode == 0
    changed = ("--set", "extract.logmel.mels=40")
    assert m2hf("extract", *paths(set_up, **other), *tiny, *only, *changed).returncode == 0
    options = ["--manifest", set_up / "manifest", "--store", set_up / "other"]
    line = refused(m2hf("eval", *options, "--run", set_up / "fits"))
    assert "audio" in line
    assert "checkpoint" in line


@pytest.mark.parametrize(
    "error",
    [MemoryError(), ImportError("libx.so: failed to map segment from shared object")],
)
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("m2hf: ")
    assert "out of memory; use fewer workers" in line


def test_another_import_error_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ImportError("cannot import name")

    monkeypatch.setattr(command_line, "app", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(ImportError, match="cannot import name"):
        command_line.main()
