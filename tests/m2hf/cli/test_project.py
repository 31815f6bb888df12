"""`m2hf init`, and verbs that take their paths from the project's file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import media
import pytest
from typer.testing import CliRunner

from m2hf.cli.app import app
from m2hf.errors import UsageError
from m2hf.manifest import Manifest
from m2hf.project import FILE, Project

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a verb in a folder with three videos and captions; returns what it prints, or raises."""
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    for name in "abc":
        media.good(Path("videos", f"{name}.mp4"), seconds=1)
    Path("c.csv").write_text("id,caption\na,one\nb,two\nc,three\n", encoding="utf-8")

    def invoke(*arguments: object) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        if isinstance(done.exception, UsageError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return invoke


def test_after_init_verbs_need_no_paths(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run("init", "videos")
    assert "no captions: all videos are in split test" in printed
    written = Project(
        media="videos", manifest="manifest", store="store", run="run", config="offline"
    )
    assert Project.find(Path()) == written
    run("extract", "--only", "logmel")
    logmel = json.loads(run("status", "--only", "logmel", "--json"))["extractors"]["logmel"]
    assert logmel["ok"] == 3
    assert [entry["id"] for entry in [json.loads(run("show", "a", "--json"))]] == ["a"]
    assert "3 items verified" in run("verify")
    assert "3 videos, 0 differences" in run("manifest", "check")
    assert {n["name"] for n in json.loads(run("weights", "list", "--json"))["weights"]}
    settings = {s["key"]: s["value"] for s in json.loads(run("config", "--json"))}
    assert settings["extract.encoder.kind"] == "sentence"
    with pytest.raises(UsageError, match=r"run/similarity.h5: no such file"):
        run("tables")
    home = Path().resolve()
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert "3 items verified" in run("verify", "--project", home)
    assert "0 upgraded" in run("upgrade", "--project", "..")


def test_options_win(run: Run) -> None:
    run("init", "videos", "--captions", "c.csv", "--config", "demo", "--name", "mine")
    assert Manifest.load(Path("manifest")).card.name == "mine"
    found = json.loads(
        run("config", "--config", "offline", "--set", "fuse.model.heads=2", "--json")
    )
    settings: dict[str, Any] = {s["key"]: s["value"] for s in found}
    assert (settings["fuse.model.width"], settings["fuse.model.heads"]) == (64, 2)
    with pytest.raises(UsageError, match=r"--media elsewhere: no such folder"):
        run("plan", "--media", "elsewhere")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("media = 'moved'\nmanifest = 'manifest'\nstore = 'store'",
         r"^m2hf.toml: media = 'moved': no such folder; correct media there, or give --media$"),
        ("media = 'c.csv'\nmanifest = 'manifest'\nstore = 'store'",
         r"^m2hf.toml: media = 'c.csv': is not a folder"),
        ("media = 'videos'\nmanifest = 'manifest'\nstore = 'c.csv'",
         r"^m2hf.toml: store = 'c.csv': is not a folder"),
        ("media = 'videos'\nmanifest = 'manifest'\nstore = 's'\nconfig = 'gone.toml'",
         r"^m2hf.toml: config = 'gone.toml': no such file"),
        ("medium = 'videos'", r"^m2hf.toml: unknown key 'medium'"),
    ],
)  # fmt: skip
def test_a_broken_project_is_one_line(run: Run, broken: str, message: str) -> None:
    run("init", "videos")
    Path(FILE).write_text(broken, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        run("plan")


def test_what_a_verb_does_not_read_may_be_missing(run: Run) -> None:
    run("init", "videos")
    run("extract", "--only", "logmel")
    Path("videos").rename("moved")
    assert "3 items verified" in run("verify")
    assert "c.mp4" in run("show", "c", "--media", "moved", "--html", "c.html") + Path(
        "c.html"
    ).read_text(encoding="utf-8")


def test_projects_that_are_not_there(run: Run) -> None:
    for folder, message in (("videos", "no m2hf.toml there"), ("c.csv", "no such folder")):
        with pytest.raises(UsageError, match=f"--project {folder}: {message}"):
            run("status", "--project", folder)


def test_init_overwrites_nothing(run: Run) -> None:
    Path("run").write_text("notes", encoding="utf-8")
    with pytest.raises(UsageError, match="run: is a file"):
        run("init", "videos")
    Path("run").unlink()
    run("manifest", "from-folder", "videos", "--captions", "c.csv", "--out", "manifest")
    with pytest.raises(UsageError, match="manifest: another manifest is there already"):
        run("init", "videos")
    with pytest.raises(UsageError, match="--config nothing: no such file"):
        run("init", "videos", "--config", "nothing")
    assert not Path(FILE).exists()
    run("init", "videos", "--captions", "c.csv", "--name", "manifest")
    with pytest.raises(UsageError, match="has a project already"):
        run("init", "videos")


def test_show_names_what_it_needs(run: Run) -> None:
    with pytest.raises(UsageError, match="show STORE ID, or show ID with --store"):
        run("show", "a")
    run("init", "videos")
    with pytest.raises(UsageError, match="show STORE ID"):
        run("show", "store", "a", "b")


def test_a_store_remembers_the_recipe_that_it_was_begun_with(run: Run) -> None:
    run("manifest", "from-folder", "videos", "--out", "m")
    paths = ("--manifest", "m", "--media", "videos", "--store", "s")
    logmel = (*paths, "--only", "logmel")
    run("extract", *logmel)
    recorded = Path("s", "m", "recipe.toml")
    assert not recorded.exists()
    mels = ("--set", "extract.logmel.mels=32")
    run("extract", *logmel, "--config", "offline", *mels)
    text = recorded.read_text(encoding="utf-8")
    assert 'kind = "sentence"' in text

    def ok(*options: str) -> int:
        counts = json.loads(run("status", *logmel, "--json", *options))["extractors"]
        return int(counts["logmel"]["ok"])

    assert ok() == 3
    assert ok("--set", "extract.logmel.mels=16") == 0
    assert ok("--config", "offline", *mels) == 3
    run("extract", *logmel, "--config", "demo")
    assert recorded.read_text(encoding="utf-8") == text
    for options, remark in (
        ((), f"m2hf: the recipe is that of the store, {recorded}; --config gives another\n"),
        (("--config", "demo"), f"the store was begun with another [extract] section: {recorded}"),
        (("--config", "offline", *mels), ""),
    ):
        done = CliRunner().invoke(app, ["plan", *logmel, *options])
        assert remark in done.stderr
        assert bool(remark) == bool(done.stderr)
    recorded.write_text("[extract]\nlogmell = 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"unknown key 'extract\.logmell'"):
        run("status", *logmel)


def test_plan_and_status_work_without_weights_and_say_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2HF_WEIGHTS", str(Path("none").resolve()))
    monkeypatch.setenv("HOME", str(Path("home").resolve()))
    run("init", "videos", "--config", "fast")
    lacking = ("--set", "extract.encoder.pretrained=laion2b_s34b_b79k", "--only", "clip,text")
    for verb in ("plan", "status"):
        found = json.loads(run(verb, *lacking, "--json"))
        assert found["extractors"]["clip"]["missing"] == 3
        assert {"clip", "text"} <= set(found["weights_missing"])
        printed = run(verb, *lacking)
        assert "weights of clip, text are missing: weights ViT-B-32" in printed
        assert "m2hf weights pull" in printed
