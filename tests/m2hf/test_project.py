"""The project's file: written, read strictly, and its paths."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.errors import ConfigError, UsageError
from m2hf.project import FILE, Project, as_written

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
PLACES = st.one_of(st.none(), TEXTS)


@given(media=PLACES, run=PLACES, config=PLACES)
def test_what_is_saved_is_found(
    tmp_path_factory: pytest.TempPathFactory, media: str, run: str, config: str
) -> None:
    folder = tmp_path_factory.mktemp("project")
    project = Project(media=media, run=run, config=config)
    project.save(folder)
    assert Project.find(folder) == project


def test_a_folder_below_has_no_project(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    Project(media="videos").save(tmp_path)
    assert Project.find(tmp_path / "below") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("medium = 'v'", "unknown key 'medium'; did you mean 'media'"),
        ("media = 3", "media = 3"),
        ("store = ''", "store = ''"),
        ("store = 'a", "not TOML"),
        ("[run]\nx = 1", "run = "),
    ],
)
def test_the_file_is_read_strictly(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        Project.find(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / FILE))


def test_a_path_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"caf.*not in UTF-8, which m2hf.toml can't hold; rename"):
        as_written(tmp_path / "caf\udce9", tmp_path)


def test_paths_are_relative_inside_and_absolute_outside(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    assert as_written(folder / "videos", folder) == "videos"
    assert as_written(folder, folder) == "."
    assert as_written(folder / ".." / "videos", folder) == str(tmp_path / "videos")
