"""Media files are found below linked folders and under any name that a file system has."""

import os
import unicodedata
from pathlib import Path

import pytest

from m2hf.data_manifests.media_folder import MediaFolder, media_files
from m2hf.errors import ManifestError, UsageError
from m2hf.media_types import MEDIA_EXTENSIONS


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


OUTSIDE = (
    "links that lead out of the folder, which extraction follows only with --set "
    "extract.media.follow_links=true"
)


def found(root: Path) -> list[str]:
    return [path.as_posix() for path in media_files(root).paths]


def remarks(root: Path) -> list[str]:
    return [str(remark) for remark in media_files(root).remarks]


def test_every_extension_in_any_case_is_found_and_others_are_counted(tmp_path: Path) -> None:
    names = sorted(f"{n}{extension}" for n, extension in enumerate(sorted(MEDIA_EXTENSIONS)))
    touch(tmp_path, *names, "upper.MP4", "a.srt", "b.srt", "README", ".hidden.mp4", "d/.x.mkv")
    assert sorted(found(tmp_path)) == sorted([*names, "upper.MP4"])
    assert remarks(tmp_path) == [
        "files without an extension of media files are left out: .srt (2), no extension (1)"
    ]


def test_linked_folders_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    root = touch(tmp_path / "v", "a.mp4", "real/b.mp4")
    touch(tmp_path / "disk", "c.mp4", "deep/d.mp4")
    (root / "0 link to real").symlink_to(root / "real")
    (root / "disk").symlink_to(tmp_path / "disk")
    (root / "disk again").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "more").symlink_to(touch(tmp_path / "third", "e.mp4"))
    assert found(root) == [
        "a.mp4", "disk/c.mp4", "disk/deep/d.mp4", "disk/more/e.mp4", "real/b.mp4",
    ]  # fmt: skip
    assert remarks(root) == [f"{OUTSIDE}: disk, disk again"]
    assert MediaFolder(root).find("e", "e.mp4") == "disk/more/e.mp4"


def test_cycles_of_links_end(tmp_path: Path) -> None:
    root = touch(tmp_path / "v", "a.mp4", "d/b.mp4")
    touch(tmp_path, "outside.mp4")
    (root / "d" / "self").symlink_to(root / "d")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    one, two = touch(tmp_path / "one", "c.mp4"), touch(tmp_path / "two", "e.mp4")
    (one / "two").symlink_to(two)
    (two / "one").symlink_to(one)
    (root / "one").symlink_to(one)
    assert found(root) == ["a.mp4", "d/b.mp4", "one/c.mp4", "one/two/e.mp4"]
    assert remarks(root) == [
        f"{OUTSIDE}: one",
        "linked folders that contain themselves are not followed: d/self, up",
    ]


def test_linked_files_are_named_where_they_lead_out(tmp_path: Path) -> None:
    root = touch(tmp_path / "v", "a.mp4")
    touch(tmp_path, "disk/b.mp4", "disk/b.txt")
    (root / "in.mp4").symlink_to(root / "a.mp4")
    (root / "out.mp4").symlink_to(tmp_path / "disk" / "b.mp4")
    (root / "out.txt").symlink_to(tmp_path / "disk" / "b.txt")
    (tmp_path / "linked").symlink_to(root)
    assert found(tmp_path / "linked") == ["a.mp4", "in.mp4", "out.mp4"]
    assert f"{OUTSIDE}: out.mp4" in remarks(tmp_path / "linked")


def test_names_that_are_not_text_and_broken_links_are_named_and_stop_nothing(
    tmp_path: Path,
) -> None:
    root = touch(tmp_path / "v", "a.mp4")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.mp4")).write_bytes(b"x")
    touch(Path(os.fsdecode(os.fsencode(root) + b"/d\xff")), "b.mp4")
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    assert found(root) == ["a.mp4"]
    assert remarks(root) == [
        "links to files that don't exist are left out: gone.mp4",
        r"names that are not in the encoding of this system are left out: caf\udce9.mp4, "
        r"d\udcff/b.mp4",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path / "v", "a.mp4", "locked/b.mp4")
    (root / "locked").chmod(0)
    try:
        assert found(root) == ["a.mp4"]
        assert remarks(root) == ["folders that can't be read are left out: locked"]
    finally:
        (root / "locked").chmod(0o700)


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_video_is_found_in_either_normalisation(
    tmp_path: Path, on_disk: str, written: str
) -> None:
    name = "Ångström café"
    stored, asked = (unicodedata.normalize(form, name) for form in (on_disk, written))
    folder = MediaFolder(touch(tmp_path, f"d/{stored}.mkv"))
    assert folder.find(asked, f"{asked}.mp4") == f"d/{stored}.mkv"
    assert folder.find("other", f"d/{asked}.mkv") == f"d/{stored}.mkv"


def test_an_exact_path_is_preferred_and_two_matches_are_refused(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    folder = MediaFolder(touch(tmp_path, *(f"{form}.mp4" for form in forms)))
    for form in forms:
        assert folder.find(form, f"{form}.mp4") == f"{form}.mp4"
    with pytest.raises(ManifestError, match="is the name of two files"):
        folder.find(forms[0], "elsewhere/é.avi")
    with pytest.raises(UsageError, match="no such folder"):
        MediaFolder(tmp_path / "none")
