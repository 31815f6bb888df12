"""`m2hf init`: begin a project, so that other verbs need no paths."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options
from m2hf.cli.manifest import Captions, columns_of, print_own
from m2hf.errors import UsageError


def init(
    videos: Annotated[Path, typer.Argument(help="Folder of videos.")],
    captions: Captions = None,
    recipe: Annotated[
        Path, typer.Option("--config", help="Recipe: a TOML file, or the name of a shipped one.")
    ] = Path("offline"),
    name: Annotated[
        str, typer.Option("--name", help="Dataset name; default: that of this folder.")
    ] = "",
    columns: options.ColumnOptions = options.COLUMNS,
) -> None:
    """Begin a project in this folder: write m2hf.toml and the manifest of a folder of videos.

    Every verb that is run here takes its paths and the recipe from m2hf.toml; options win.
    """
    from m2hf.cli.recipe import load_recipe
    from m2hf.data_manifests.folder import from_folder
    from m2hf.manifest import Manifest
    from m2hf.project import FILE, Project, as_written

    here = Path()
    project = Project(
        media=as_written(videos, here),
        manifest="manifest",
        store="store",
        run="run",
        config=as_written(recipe, here) if recipe.is_file() else str(recipe),
    )
    if (here / FILE).exists():
        raise UsageError(
            f"{FILE}: this folder has a project already; run the verbs in it, or begin another "
            "one in a folder of its own"
        )
    for part in ("manifest", "store", "run"):
        if Path(part).exists() and not Path(part).is_dir():
            raise UsageError(f"{part}: is a file, where the project's folder is to be; rename it")
    load_recipe(recipe, None)
    called = name or here.resolve().name or videos.resolve().name
    built = from_folder(videos, captions, called, columns_of(columns, captions))
    rows = here / "manifest"
    if (rows / "card.toml").exists() and Manifest.load(rows).digest != built.manifest.digest:
        raise UsageError(
            f"{rows}: another manifest is there already, which would be overwritten; move it away, "
            f"or write a {FILE} that names it"
        )
    built.manifest.save(rows)
    print_own(built, captions)
    project.save(here)
    typer.echo(f"wrote {FILE} and {rows} ({built.manifest.digest[:8]})")
    typer.echo("next: m2hf weights list; m2hf extract; m2hf search QUERY")
