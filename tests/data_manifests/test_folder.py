"""Manifests of own data: names as file systems have them, captions as people write them."""

import os
import unicodedata
from pathlib import Path

import pytest

from m2hf.data_manifests.folder import OwnManifest, from_captions, from_folder
from m2hf.errors import ManifestError
from m2hf.manifest import SPLITS, Manifest

ODD_NAMES = [
    "Screen Recording at 12.22.20\u202fPM",
    "a\u00a0b",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u6771\u4eac\u3000\u591c",
    "-i %20 'q' \"d\" #1 a;b,c \\ |",
    "\u200fright to left mark",
    "x" * 200,
]


def videos(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "videos"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "captions.csv"
    path.write_bytes(text.encode())
    return path


def build(tmp_path: Path, names: list[str], text: str) -> OwnManifest:
    return from_folder(videos(tmp_path, *names), csv(tmp_path, text), "m")


def captions(built: OwnManifest) -> dict[str, tuple[str, ...]]:
    return {row.id: row.captions for row in built.manifest.rows if row.captions}


def problem(tmp_path: Path, names: list[str], text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        build(tmp_path, names, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_a_file_system_takes_is_an_id(tmp_path: Path, name: str) -> None:
    quoted = name.replace('"', '""')
    built = build(tmp_path, [f"{name}.mp4", "ok.mp4"], f'id,caption\n"{quoted}",a clip\nok,x\n')
    assert captions(built) == {name: ("a clip",), "ok": ("x",)}
    assert built.remarks == ()
    built.manifest.save(tmp_path / "out")
    assert Manifest.load(tmp_path / "out") == built.manifest
    assert Manifest.load(tmp_path / "out").check(tmp_path / "videos") == []


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_either_normalisation_is_the_same_name(tmp_path: Path, on_disk: str, written: str) -> None:
    stored, asked = (unicodedata.normalize(form, "Ångström é") for form in (on_disk, written))
    built = build(tmp_path, [f"{stored}.mp4"], f"id,caption\n{asked},x\n{stored},y\n")
    assert captions(built) == {stored: ("x", "y")}
    assert (tmp_path / "videos" / built.manifest.rows[0].path).is_file()
    alone = from_captions(csv(tmp_path, f"id,caption\n{asked},x\n{stored},y\n"), "m")
    assert captions(alone) == {asked: ("x", "y")}


def test_a_name_that_cannot_be_an_id_is_named_and_left_out_with_its_captions(
    tmp_path: Path,
) -> None:
    names = ["ok.mp4", "a\nb.mp4", "\x1b[2J.mp4", "\u202eabc.mp4", " .mp4", " trimmed .mp4"]
    text = 'id,caption,split\nok,x,test\n"a\nb",left out,test\ntrimmed,y,test\n'
    built = build(tmp_path, names, text)
    assert captions(built) == {"ok": ("x",), "trimmed": ("y",)}
    assert [str(remark) for remark in built.remarks] == [
        "4 files whose names can't be ids (control characters, or nothing but spaces) are left "
        r"out: \x1b[2J.mp4,  .mp4, a\nb.mp4, \u202eabc.mp4",
        r"captions.csv: 1 captions are of files that are left out: a\nb",
    ]
    raw = os.fsencode(tmp_path / "videos") + b"/caf\xe9.mp4"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    assert any("encoding" in str(r) for r in build(tmp_path, names, text).remarks)


def test_an_audio_file_next_to_its_video_is_left_out_and_alone_is_a_row(tmp_path: Path) -> None:
    built = build(tmp_path, ["a.mp4", "a.aac", "b.opus"], "id,caption\na,x\n")
    assert [row.path for row in built.manifest.rows] == ["a.mp4", "b.opus"]
    (remark,) = built.remarks
    assert str(remark) == "1 audio files next to a video of the same name are left out: a.aac"


def test_all_files_of_equal_ids_are_named(tmp_path: Path) -> None:
    names = [f"{n}.{end}" for n in range(12) for end in ("mp4", "mkv")]
    line = problem(tmp_path, names, "id,caption\n0,x\n")
    assert "id '0' is the name of two files: 0.mkv and 0.mp4; id '1'" in line
    assert line.endswith("; and 2 more ids; ids must be unique, rename one")


def test_file_names_and_paths_stand_for_ids_and_that_is_said(tmp_path: Path) -> None:
    names = ["a.mp4", "d/b.mkv", "c.mp4", "c.mp4.mkv"]
    text = "id,caption\na.mp4,x\nd/b.mkv,y\nb,z\nc.mp4,w\n"
    built = build(tmp_path, names, text)
    assert captions(built) == {"a": ("x",), "b": ("y", "z"), "c.mp4": ("w",)}
    (remark,) = built.remarks
    assert str(remark) == (
        "captions.csv: 2 ids are written differently from the video's: a.mp4 is a, d/b.mkv is b"
    )


def test_all_problems_of_a_captions_file_are_one_message(tmp_path: Path) -> None:
    text = (
        "id,caption,split\nq,x,test\na,,test\na,x,dev\na,x,val\na,x,test\na,one, two,test\n"
        "A,x,val\na.avi,x,val\n,x,val\n"
    )
    assert problem(tmp_path, ["a.mp4"], text) == (
        f"{tmp_path}/captions.csv: 8 problems: "
        "line 2: a caption for id 'q', but no video file has that name; "
        "line 3: the caption of 'a' is empty; "
        "line 4: split 'dev'; expected train, val, test; "
        "line 5: 'a' is in split test and in val; "
        "line 7: 4 fields, more than the 3 of the header; "
        "line 8: a caption for id 'A', but no video file has that name; did you mean 'a'?; "
        "line 9: a caption for id 'a.avi', but no video file has that name; did you mean 'a'?; "
        "line 10: a caption for id '', but no video file has that name. "
        "To do: add the file or remove the line; add a text or remove the line; correct it; "
        "give a video one split; put a field that has a separator or a quote in quotes, and "
        'double a quote in it: ""; '
        "write ids as the names of the files without their extensions"
    )


def test_a_quote_that_takes_in_other_rows_is_found(tmp_path: Path) -> None:
    text = 'id,caption\na,"a man\nb,lost\nc,"\n'
    line = problem(tmp_path, ["a.mp4", "b.mp4", "c.mp4"], text)
    assert "line 2: a quote opened here takes in line 3, a line of its own; close the" in line
    built = build(tmp_path, ["a.mp4", "b.mp4"], 'id,caption\na,"a man, then\na dog, too"\nb,x\n')
    assert captions(built)["a"] == ("a man, then\na dog, too",)


def test_semicolons_and_tabs_are_used_and_said(tmp_path: Path) -> None:
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        text = separator.join(["id", "caption", "split\na", "one, two", "test\n"])
        built = build(tmp_path, ["a.mp4"], text)
        assert captions(built) == {"a": ("one, two",)}
        (remark,) = built.remarks
        assert str(remark) == f"captions.csv: fields are separated by {word}"


def test_a_file_without_captions_is_refused(tmp_path: Path) -> None:
    assert "line 1: no captions after the header" in problem(tmp_path, ["a.mp4"], "id,caption\n")
    videos_only = videos(tmp_path / "x", "notes.srt")
    with pytest.raises(ManifestError, match=r"no media file there .*left out: .srt \(1\)"):
        from_folder(videos_only, None, "m")


def test_a_folder_without_captions_is_all_test(tmp_path: Path) -> None:
    built = from_folder(videos(tmp_path, *(f"v{n}.mp4" for n in range(20))), None, "m")
    assert {row.split for row in built.manifest.rows} == {"test"}
    assert not built.split_by_hash
    assert len(built.without_captions) == 20
    assert built.manifest.check(tmp_path / "videos") == []


def test_captions_alone_are_a_manifest_without_media(tmp_path: Path) -> None:
    text = "id,caption,split\nb,x,train\n/a,y,test\nc/../d,z,val\nb,again,train\n.,w,test\n"
    built = from_captions(csv(tmp_path, text), "m")
    rows = [(row.id, row.path, row.split, row.captions) for row in built.manifest.rows]
    assert rows == [
        ("b", "b", "train", ("x", "again")),
        ("/a", "%2Fa", "test", ("y",)),
        ("c/../d", "c%2F..%2Fd", "val", ("z",)),
        (".", "%2E", "test", ("w",)),
    ]
    built.manifest.save(tmp_path / "m")
    assert Manifest.load(tmp_path / "m").check(tmp_path) == [
        "b: no file b",
        "/a: no file %2Fa",
        "c/../d: no file c%2F..%2Fd",
        ".: no file %2E",
    ]


def test_captions_alone_are_split_as_with_their_videos_and_bad_ids_are_named(
    tmp_path: Path,
) -> None:
    names = [f"v{n}" for n in range(30)]
    text = "id,caption\n" + "".join(f"{name},x\n" for name in names)
    alone = from_captions(csv(tmp_path, text), "m")
    assert alone.split_by_hash
    both = build(tmp_path, [f"{name}.mp4" for name in names], text)
    assert {row.id: row.split for row in alone.manifest.rows} == {
        row.id: row.split for row in both.manifest.rows
    }
    with pytest.raises(ManifestError, match=r"2 problems: line 2: no id; line 3: id 'a\\tb'"):
        from_captions(csv(tmp_path, "id,caption\n,x\na\tb,y\n"), "m")
    (remark,) = from_captions(csv(tmp_path, "id,caption\na.mp4,x\n"), "m").remarks
    assert "1 ids end in the extension of a media file" in str(remark)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (0, 0, 1)), (3, (2, 0, 1)), (10, (7, 1, 2)), (33, (23, 3, 7))]
)
def test_shares_are_exact(tmp_path: Path, count: int, expected: tuple[int, ...]) -> None:
    text = "id,caption\n" + "".join(f"v{n},x\n" for n in range(count))
    counts = from_captions(csv(tmp_path, text), "m").manifest.counts()
    videos_in = [counts[split].videos if split in counts else 0 for split in SPLITS]
    assert tuple(videos_in) == expected
