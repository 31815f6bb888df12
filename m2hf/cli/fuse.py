"""`m2hf train | eval`: from shards to a similarity file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.cli.project import NOTHING, FromProject
from m2hf.errors import UsageError
from m2hf.manifest import Split

if TYPE_CHECKING:
    from m2hf.fuse.distributed import ProcessGroup
    from m2hf.fuse.training.run import EpochReport

_FEW_VIDEOS = 30  # of validation, below which its R@1 is mostly noise
_SHOWN = 3  # ids of videos that a stream has no entry for


def train(
    manifest: options.ManifestDir,
    store: options.Store,
    run: options.Run,
    config: options.Config = None,
    set_: options.Set = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew where RUN holds a finished run.")
    ] = False,
) -> None:
    """Train the fusion on cached features; writes RUN/checkpoint.safetensors.

    An interrupted run is resumed by the same command; a finished one is kept, unless --overwrite is
    given.
    """
    from m2hf.fuse.distributed import process_group

    with process_group() as group:
        _train(manifest, store, run, config, set_, overwrite, group)


def _train(
    manifest: Path,
    store: Path,
    run: Path,
    config: Path | None,
    set_: list[str] | None,
    overwrite: bool,
    group: "ProcessGroup",
) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from m2hf.cli.recipe import layout_of, load_recipe
    from m2hf.fuse.level_table import LATE_FUSION
    from m2hf.fuse.training.run import train as fit
    from m2hf.manifest import Manifest, shortened

    tell = partial(typer.echo, err=True) if group.is_main else lambda _: None
    recipe, _ = load_recipe(config, set_, layout_of(manifest, store), tell)
    loaded = Manifest.load(manifest)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    bar = progress.add_task("epochs", total=recipe.fuse.train.epochs, now="")

    def show(report: "EpochReport") -> None:
        progress.start()  # with the first epoch, so that an error before it stands alone
        levels = " ".join(f"{name} {value:.1f}" for name, value in report.val_recall.items())
        loss = f"loss {report.loss[LATE_FUSION]:.3f}  " if report.loss else ""
        progress.update(
            bar,
            description=report.stage or "epochs",
            completed=report.epoch,
            now=f"{loss}val R@1 {levels}  {report.captions_per_s:.0f} captions/s",
        )

    try:
        on_epoch = show if group.is_main else None
        done = fit(loaded, store, run, recipe.fuse, on_epoch, group, True, overwrite)
    finally:
        if progress.live.is_started:
            progress.stop()
    if not group.is_main:
        return
    typer.echo(
        f"trained on {done.train_captions} captions of {done.train_videos} videos, "
        f"kept epoch {done.best_epoch} of {done.epochs}, "
        f"chosen on {done.val_videos} validation videos"
    )
    if done.val_videos < _FEW_VIDEOS:
        typer.echo(_few_videos(done.val_videos))
    typer.echo(_beside_baselines(done.val_recall[LATE_FUSION], done.baselines))
    for role, flags in done.flags.items():
        typer.echo(f"{role}: {', '.join(flags)}")
    if done.left_out:
        typer.echo(f"{done.left_out} training videos left out: no frames or no captions")
    videos = done.train_videos + done.lost + done.left_out + done.val_videos
    for role, missing in done.absent.items():
        typer.echo(
            f"{role}: no entry for {len(missing)} of {videos} training and validation videos "
            f"(not extracted, failed, or not imported): {shortened(missing, _SHOWN)}"
        )
    if done.lost:
        typer.echo(f"{done.lost} training videos left out, which are not in every stream")
    elif done.absent:
        typer.echo("these lack the modality; fuse.train.videos=intersection trains without them")
    typer.echo(f"wrote {done.checkpoint}")


def _beside_baselines(ours: float, theirs: Mapping[str, float]) -> str:
    """One line: R@1 in percent of the model and of the best baseline, or of each that is above."""
    ahead = {name: recall for name, recall in theirs.items() if recall > ours}
    best = max(theirs, key=lambda name: theirs[name])
    shown = ", ".join(f"{n} {r:.1f}" for n, r in (ahead or {best: theirs[best]}).items())
    verdict = "below baselines" if ahead else "not below a baseline"
    return f"validation R@1 {ours:.1f}, {verdict}: {shown}"


def _few_videos(videos: int) -> str:
    """What it means to choose on so few validation videos: the standard error of a share of one
    half, which is the largest."""
    return (
        f"{videos} validation videos are too few to choose on: R@1 there is uncertain by about "
        f"{50 / videos**0.5:.0f} points, so the kept epoch and the late fusion follow chance; give "
        f"{_FEW_VIDEOS} or more, by a val split or by fuse.train.val_fraction"
    )


def evaluate(
    manifest: options.ManifestDir,
    store: options.Store,
    run: Annotated[Path | None, typer.Option("--run", help="Folder of a training run.")] = None,
    zero_shot: Annotated[
        bool,
        typer.Option("--zero-shot", help="Score without training, what shares a space."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Similarity file to write, default RUN/similarity.h5; with --zero-shot: folder.",
        ),
    ] = None,
    config: options.Config = None,
    set_: options.Set = None,
    split: Annotated[Split, typer.Option("--split", help="Split to score.")] = "test",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines", help="Also score zero-shot and ridge, as table rows."
        ),
    ] = True,
    project: FromProject = NOTHING,
) -> None:
    """Score a split with RUN's checkpoint; writes RUN/similarity.h5, or the file --out.

    With --zero-shot nothing is trained: the levels of the recipe whose stream shares a space with
    the captions are compared as they are, and summed. OUT is then a run like any other, with an
    untrained checkpoint.
    """
    from m2hf.cli.recipe import layout_of, load_recipe
    from m2hf.fuse.evaluation.evaluate import evaluate as score
    from m2hf.manifest import Manifest

    if zero_shot and "run" in project:
        run = None
    folder, similarity = _scored(run, zero_shot, out)
    loaded = Manifest.load(manifest)
    if not zero_shot and "config" in project:
        config = None  # the run has its own
    if zero_shot:
        from m2hf.fuse.evaluation.zero_shot import write_untrained

        recipe, _ = load_recipe(config, set_, layout_of(manifest, store))
        write_untrained(loaded, store, folder, recipe.fuse)
        config = set_ = None
    given = load_recipe(config, set_)[0].fuse if config is not None or set_ else None
    remarks: list[str] = []
    path = score(loaded, store, folder, given, split, baselines, remarks.append, similarity)
    for remark in remarks:
        typer.echo(remark)
    typer.echo(f"wrote {path}")


def _scored(run: Path | None, zero_shot: bool, out: Path | None) -> tuple[Path, Path | None]:
    """The folder of the run to score, and the file to write where it isn't the folder's own."""
    folder = out if zero_shot else run
    if folder is None or (zero_shot and run is not None):
        raise UsageError(
            "eval scores a trained run, --run RUN, or without training, --zero-shot --out DIR; "
            "give one of the two"
        )
    if zero_shot or out is None:
        return folder, None
    if out.suffix != ".h5" or out.is_dir():
        raise UsageError(f"--out {out}: expected a similarity file to write, such as affine.h5")
    return folder, out
