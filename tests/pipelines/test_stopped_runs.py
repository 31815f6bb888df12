"""What the machine lacks stops a run with one line and marks no clip; a bad clip fails alone."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import media
import pytest

from m2hf.errors import ResourceError, UsageError
from m2hf.extract.flow import FlowSession
from m2hf.extract.media.decode import DecodedClip
from m2hf.ffmpeg import ffmpeg_exe
from m2hf.manifest import Card, Manifest, Row
from m2hf.pipelines import clips, extraction
from m2hf.pipelines.executors import SerialExecutor
from m2hf.pipelines.job import Job

ONLY = ("flow", "thumbnail")
COMPLETE = {"ok": 3, "empty": 0, "failed": 0, "quarantined": 0, "missing": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("a", "b", "c"):
        media.good(folder / f"{name}.mp4", seconds=1)
    return folder


class Project:
    """Three clips with a manifest, and a store."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder, self.media = folder, folder / "media"
        shutil.copytree(made, self.media)
        self.save([f"{name}.mp4" for name in "abc"])

    def save(self, paths: list[str]) -> None:
        """The manifest of these paths; an id is the name without its extension."""
        rows = (Row(id=Path(path).stem, path=path, split="test") for path in paths)
        Manifest(Card(name="three", protocol="one_caption"), tuple(rows)).save(self.folder / "man")

    def job(self, **section: Any) -> Job:
        given = {"device": "cpu", "buckets": 1, **section}
        return Job.prepare(self.folder / "man", self.media, self.folder / "store", given, ONLY)

    def run(self, **section: Any) -> extraction.RunStatus:
        job = self.job(**section)
        for _ in extraction.extract(job, SerialExecutor(), extraction.plan(job)):
            pass
        return extraction.status(job)

    def stops(self, match: str) -> None:
        """A run ends with this line, and no clip is marked."""
        job = self.job()
        with pytest.raises(ResourceError, match=match) as caught:
            self.run()
        assert "\n" not in str(caught.value)
        now = extraction.status(job)
        assert now.failures == []
        assert all(counts["ok"] + counts["missing"] == 3 for counts in now.counts.values())

    def completes(self) -> None:
        assert self.run().counts == dict.fromkeys(ONLY, COMPLETE)


@pytest.fixture
def project(tmp_path: Path, made: Path) -> Project:
    return Project(tmp_path, made)


def at_second_clip(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
    """`happen` before the second decode of the next run."""
    calls: list[Path] = []

    def decode(path: Path, *arguments: Any, real: Any = clips.decode, **more: Any) -> DecodedClip:
        calls.append(path)
        if len(calls) == 2:
            happen()
        found: DecodedClip = real(path, *arguments, **more)
        return found

    monkeypatch.setattr(clips, "decode", decode)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


def system_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


SHORTAGES = [
    system_error(errno.ENOMEM),
    system_error(errno.EAGAIN),  # of fork
    system_error(errno.EMFILE),
    system_error(errno.ENFILE),
    system_error(errno.ESTALE),
    RuntimeError("can't start new thread"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_a_shortage_while_decoding_stops_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:
        at_second_clip(patch, raising(error))
        project.stops("decoding b: ")
    project.completes()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    ],
    ids=repr,
)
def test_a_shortage_in_a_model_stops_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FlowSession, "extract", raising(error))
        project.stops("flow: out of ")
    project.completes()


def test_any_other_exception_fails_the_clip_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_second_clip(monkeypatch, raising(IndexError("list index\nout of range")))
    now = project.run()
    assert {(f["id"], f["class"], f["message"]) for f in now.failures} == {
        ("b", "MediaError", "IndexError: list index")
    }
    assert all(counts == {**COMPLETE, "ok": 2, "failed": 1} for counts in now.counts.values())


@pytest.mark.parametrize("empty", [True, False])
def test_media_that_vanish_stop_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    away = project.folder / "away"

    def unmount() -> None:
        project.media.rename(away)
        if empty:
            project.media.mkdir()

    with monkeypatch.context() as patch:
        at_second_clip(patch, unmount)
        job = project.job()
        with pytest.raises(ResourceError, match="is a share not mounted"):
            project.run()
    if empty:
        with pytest.raises(ResourceError, match="the folder is empty; is a share not mounted"):
            project.run()
        project.media.rmdir()
    else:
        with pytest.raises(UsageError, match="no such folder"):
            project.run()
    away.rename(project.media)
    assert extraction.status(job).failures == []
    project.completes()


def test_another_folder_than_that_of_the_media_stops_the_run(project: Project) -> None:
    project.media.rename(project.folder / "right")
    project.media.mkdir()
    (project.media / "readme.txt").write_text("x", encoding="utf-8")
    project.stops("none of the 3 files of the manifest is there")


def test_a_clip_that_is_absent_or_broken_fails_alone(project: Project) -> None:
    (project.media / "a.mp4").unlink()
    media.garbage(project.media / "b.mp4")
    now = project.run()
    assert {f["id"] for f in now.failures} == {"a", "b"}
    assert all(counts == {**COMPLETE, "ok": 1, "failed": 2} for counts in now.counts.values())


def test_an_ffmpeg_that_fails_at_any_frame_is_not_the_clips_fault(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = project.folder / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'Cannot allocate memory' >&2\nexit 1\n", encoding="ascii")
    broken.chmod(0o755)
    with monkeypatch.context() as patch:
        for module in ("control", "ffmpeg_process"):
            patch.setattr(f"m2hf.extract.media.{module}.ffmpeg_exe", lambda: str(broken))
        project.stops("no clip is to blame: Cannot allocate memory")
    project.completes()


def test_a_link_that_leads_out_fails_alone_unless_a_setting_says_otherwise(
    project: Project,
) -> None:
    disk = project.folder / "disk"
    disk.mkdir()
    (project.media / "b.mp4").rename(disk / "b.mp4")
    (project.media / "b.mp4").symlink_to(disk / "b.mp4")
    (project.media / "c.mp4").rename(project.media / "d.mp4")
    (project.media / "c.mp4").symlink_to("d.mp4")
    now = project.run()
    (failure, other) = now.failures
    assert failure["id"] == other["id"] == "b"
    assert "leads out of --media; set extract.media.follow_links=true" in failure["message"]
    assert extraction.reset_failures(project.job()) == 2
    counts = project.run(media={"follow_links": True}).counts
    assert counts == dict.fromkeys(ONLY, COMPLETE)


def test_a_linked_media_root_is_followed(project: Project) -> None:
    project.media.rename(project.folder / "real")
    project.media.symlink_to(project.folder / "real")
    project.completes()


@contextmanager
def open_files(more: int) -> Iterator[None]:
    """At most `more` files than are open now. The limit is of their numbers, so numbers that are
    free below the highest are taken first: another test may have left the highest open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    with ExitStack() as taken:
        number = -1
        while number < highest:
            number = os.open(os.devnull, os.O_RDONLY)
            taken.callback(os.close, number)
        limit = len(list(Path("/proc/self/fd").iterdir())) + more
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_few_open_files_stop_the_run_wherever_they_run_out(project: Project) -> None:
    project.job()  # which reads files of the libraries
    for more in range(1, 7):
        with open_files(more), pytest.raises((ResourceError, OSError)) as caught:
            project.run()
        assert "oo many open files" in str(caught.value)
    assert extraction.status(project.job()).failures == []
    project.completes()


def command(project: Project) -> list[str]:
    paths = ["--manifest", project.folder / "man", "--media", project.media]
    given = [*map(str, paths), "--store", str(project.folder / "store"), "--only", ",".join(ONLY)]
    return [*given, "--set", "extract.buckets=1", "--set", "extract.device=cpu"]


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(24, 'Too many open files')"])
def test_a_shortage_outside_of_tasks_is_one_line_of_the_command(
    project: Project, error: str
) -> None:
    code = f"""
import sys
from m2hf.cli.app import main
from m2hf.pipelines import extraction
def plan(*given):
    raise {error}
extraction.plan = plan
sys.argv = ["m2hf", "extract", *sys.argv[1:]]
main()
"""
    run = [sys.executable, "-c", code, *command(project)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert last_line(done).startswith("m2hf: extract: ")
    assert done.stderr.count("\n") == 1


def test_too_little_memory_for_ffmpeg_stops_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails with other messages at each limit, some of which a damaged file causes, too."""
    limited = project.folder / "ffmpeg"
    with monkeypatch.context() as patch:
        for module in ("control", "ffmpeg_process"):
            patch.setattr(f"m2hf.extract.media.{module}.ffmpeg_exe", lambda: str(limited))
        for limit_mb in (1, 100, 150, 200):
            script = f'#!/bin/sh\nulimit -v {limit_mb << 10}\nexec {ffmpeg_exe()} "$@"\n'
            limited.write_text(script, encoding="utf-8")
            limited.chmod(0o755)
            project.stops("no clip is to blame")
    project.completes()


def in_mounts(project: Project, prepare: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a mount namespace, after the shell command `prepare`."""
    outside = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed, so no file system can be mounted")
    allowed = subprocess.run(
        [*outside, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
    )
    if allowed.returncode:
        pytest.skip(f"this kernel mounts no file system for us: {allowed.stderr!r}")
    m2hf = str(Path(sys.executable).parent / "m2hf")
    script = f'{prepare} && exec "$@"'
    run = [*outside, "sh", "-c", script, "sh", m2hf, "extract", *command(project), *options]
    return subprocess.run(run, cwd=project.folder, capture_output=True, text=True, timeout=120)


def test_a_store_that_is_full_or_read_only_stops_the_run(project: Project) -> None:
    (project.folder / "store").mkdir()
    done = in_mounts(project, "mount -t tmpfs -o size=4k none store")
    assert "can't write (No space left on device)" in last_line(done)
    done = in_mounts(project, "mount -t tmpfs -o ro none store")
    assert "can't write (Read-only file system)" in last_line(done)
    project.completes()


def test_a_full_spool_folder_stops_the_run(project: Project) -> None:
    (project.folder / "spool").mkdir()
    spool = ["--set", f"extract.media.spool_folder={project.folder / 'spool'}"]
    done = in_mounts(
        project,
        "mount -t tmpfs -o size=64k none spool",
        *spool,
        *("--set", "extract.media.memory_mb=0"),
    )
    assert "spool: can't store decoded data (No space left on device)" in last_line(done)
    assert extraction.status(project.job()).failures == []
    project.completes()
