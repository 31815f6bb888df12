"""Links that lead out of the media root are seen, and a share that is gone is told from a file."""

from pathlib import Path

import pytest

from m2hf.errors import ResourceError, UsageError
from m2hf.media_root import MediaRoot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two folders, reached by a link, next to another folder."""
    for name in ("media/a.mp4", "media/part/b.mp4", "disk/c.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"x")
    (tmp_path / "linked").symlink_to(tmp_path / "media")
    return tmp_path / "linked"


def test_links_within_the_root_are_followed_and_others_are_not(root: Path) -> None:
    real = root.resolve()
    links = {
        "file": real / "a.mp4",
        "folder": real / "part",
        "up": Path("..") / "media" / "part",
        "round": real / "round",
        "out": real.parent / "disk" / "c.mp4",
        "disk": real.parent / "disk",
        "sibling": real.parent / "media2",  # which starts with the root's name
        "chain": real / "out",
    }
    for name, target in links.items():
        (real / name).symlink_to(target)
    found = MediaRoot.open(root)
    within = ("a.mp4", "part/b.mp4", "file", "folder/b.mp4", "up/b.mp4", "round", "none.mp4")
    assert [path for path in within if found.inside(path) is None] == []
    assert found.inside("up/b.mp4") == real / "part" / "b.mp4"
    outside = ("out", "disk/c.mp4", "disk/none.mp4", "sibling/c.mp4", "chain")
    assert [path for path in outside if found.inside(path) is not None] == []


def test_a_missing_or_broken_file_is_the_clips_own(root: Path) -> None:
    found = MediaRoot.open(root)
    (found.real / "dangling.mp4").symlink_to(found.real / "nowhere")
    for path in ("a.mp4", "none.mp4", "part/none.mp4", "no/such/folder.mp4", "dangling.mp4"):
        found.check_reachable(path)
    found.check_reachable("a.mp4/b.mp4")
    found.check_reachable("x" * 300 + "/b.mp4")


def test_a_root_or_folder_that_is_gone_empty_or_a_link_to_nowhere_stops(root: Path) -> None:
    found = MediaRoot.open(root)
    (found.real / "part" / "b.mp4").unlink()
    (found.real / "share").symlink_to(found.real.parent / "unmounted")
    for path, folder in (("part/b.mp4", "part"), ("share/d.mp4", "share")):
        with pytest.raises(ResourceError, match="is a share not mounted") as caught:
            found.check_reachable(path)
        assert str(caught.value).startswith(f"{found.real / folder}: ")
    away = found.real.rename(found.real.parent / "away")
    with pytest.raises(ResourceError, match="No such file or directory; is a share not mounted"):
        found.check_reachable("a.mp4")
    found.real.mkdir()
    with pytest.raises(ResourceError, match="the folder is empty; is a share not mounted"):
        found.check_reachable("a.mp4")
    assert away.is_dir()


def test_a_root_that_is_no_folder_is_refused(root: Path) -> None:
    for path in (root / "none", root / "a.mp4", root / "a.mp4" / "b"):
        with pytest.raises(UsageError, match="no such folder"):
            MediaRoot.open(path)
