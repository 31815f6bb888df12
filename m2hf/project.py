"""A project: a folder with a file m2hf.toml that says where its parts lie.

Every key is optional. Relative paths start in the project's folder, so that it can be moved as a
whole. A project holds for the folder that its file is in, not for the folders below it.
"""

import os
from pathlib import Path
from typing import Annotated, Self

import tomli_w
from pydantic import Field

from m2hf.atomic import atomic_text
from m2hf.config import Section, parse
from m2hf.errors import ConfigError, UsageError
from m2hf.plain_data import read_text, toml
from m2hf.printable import printable

FILE = "m2hf.toml"
HEADER = """\
# Written by `m2hf init`. Every verb that is run in this folder takes these from here; an option
# wins. Relative paths start in this folder. config: a recipe that ships with m2hf, or a file.
"""

Place = Annotated[str, Field(min_length=1, strict=True)]


class Project(Section):
    """The file of a project, as written there."""

    media: Place | None = None
    """Root folder of the video files."""
    manifest: Place | None = None
    """Manifest folder."""
    store: Place | None = None
    """Folder of the feature shards."""
    run: Place | None = None
    """Folder of the training run."""
    config: Place | None = None
    """Recipe: the name of one that ships with m2hf, or a TOML file."""

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The project of `folder`; None where it has no m2hf.toml. Raises ConfigError for one that
        isn't TOML, or has an unknown key or a value that is no text."""
        path = folder / FILE
        if not path.exists():
            return None
        where = printable(str(path))
        return parse(cls, toml(read_text(path, where, ConfigError), where, ConfigError), where)

    def save(self, folder: Path) -> None:
        """Write the file."""
        text = tomli_w.dumps(self.model_dump(exclude_none=True))
        atomic_text(folder / FILE, HEADER + text)


def as_written(path: Path, folder: Path) -> str:
    """`path` as the file of the project in `folder` has it: relative to it, or absolute outside.

    Raises UsageError for one that isn't UTF-8, which TOML can't hold.
    """
    whole, base = (Path(os.path.normpath(each.absolute())) for each in (path, folder))
    written = str(whole.relative_to(base) if whole.is_relative_to(base) else whole)
    if printable(written) != written:
        raise UsageError(
            f"{printable(written)}: a name with control characters, or not in UTF-8, which "
            f"{FILE} can't hold; rename it"
        )
    return written
