"""`m2hf manifest` as a user meets it: remarks are printed, problems are one line."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import media
import pytest

from m2hf.manifest import Manifest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b\u202fPM.mkv", "notes.srt", "x\ny.mp4"):
        (folder / name).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).write_bytes(b"x")
    return folder


def test_from_folder_prints_remarks(m2hf: Command, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id;caption;split\na.mp4;one, two;test\n", encoding="utf-8")
    done = m2hf(
        "manifest", "from-folder", videos, "--captions", "c.csv", "--out", "m", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    digest = Manifest.load(tmp_path / "m").digest
    assert done.stdout.splitlines() == [
        "test: 2 videos, 1 captions",
        "files without an extension of media files are left out: .srt (1)",
        r"names that are not in the encoding of this system are left out: caf\udce9.mp4",
        "1 files whose names can't be ids (control characters, or nothing but spaces) are left "
        r"out: x\ny.mp4",
        "c.csv: fields are separated by semicolons",
        "c.csv: 1 ids are written differently from the video's: a.mp4 is a",
        r"1 videos have no caption: b\u202fPM",
        f"wrote m ({digest[:8]})",
    ]


def test_all_problems_are_one_line_and_nothing_is_written(
    m2hf: Command, videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.csv").write_text("id,caption\na,one, two\nq,x\n", encoding="utf-8")
    done = m2hf(
        "manifest", "from-folder", videos, "--captions", "c.csv", "--out", "m", cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("m2hf: c.csv: 2 problems: line 2: 3 fields")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_without_captions_features_are_extracted_and_evaluation_is_refused(
    m2hf: Command, tmp_path: Path
) -> None:
    (tmp_path / "v").mkdir()
    media.good(tmp_path / "v" / "a.mp4", seconds=1)
    made = m2hf("manifest", "from-folder", "v", "--out", "m", cwd=tmp_path)
    assert made.returncode == 0
    assert "no captions: all videos are in split test" in made.stdout
    assert m2hf("manifest", "check", "m", "--media", "v", cwd=tmp_path).returncode == 0
    paths = ("--manifest", "m", "--store", "s")
    done = m2hf("extract", *paths, "--media", "v", "--only", "logmel", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for verb in ("train", "eval"):
        done = m2hf(verb, *paths, "--run", "r", cwd=tmp_path)
        assert done.returncode == 2
        assert "none of its 1 videos has a caption in the manifest" in done.stderr


def test_from_captions_needs_no_media_and_check_says_missing(m2hf: Command, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,caption\na,one\na,two\nb,three\n", encoding="utf-8")
    done = m2hf("manifest", "from-captions", "c.csv", "--out", "m", "--name", "set", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no split column: split 70/10/20, in the order of the ids' hashes" in done.stdout
    manifest = Manifest.load(tmp_path / "m")
    assert manifest.card.name == "set"
    assert [(row.id, row.path, len(row.captions)) for row in manifest.rows] == [
        ("a", "a", 2),
        ("b", "b", 1),
    ]
    assert m2hf("manifest", "check", "m", cwd=tmp_path).returncode == 0
    done = m2hf("manifest", "check", "m", "--media", tmp_path, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout.splitlines()[:2] == ["a: no file a", "b: no file b"]


def test_columns_of_other_names(m2hf: Command, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(
        "video;id;text;part\na;7;one;train\nb;8;two;test\n", encoding="utf-8"
    )
    named = ("--id-column", "video", "--caption-column", "text")
    made = ("manifest", "from-captions", "c.csv", "--out", "m")
    done = m2hf(*made, *named, "--split-column", "part", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [(row.id, row.split, row.captions) for row in Manifest.load(tmp_path / "m").rows]
    assert rows == [("a", "train", ("one",)), ("b", "test", ("two",))]
    for options, message in (
        (named[:2], "the header is video;id;text;part, expected video,caption,"),
        ((*named, "--split-column", "fold"), "expected video,text,fold,"),
        ((*named, "--split-column", "text"), "name a column of its own for each"),
    ):
        refused = m2hf(*made, *options, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert message in refused.stderr
    alone = m2hf("manifest", "from-folder", ".", "--out", "n", *named, cwd=tmp_path)
    assert alone.returncode == 2
    assert "are of --captions FILE" in alone.stderr
