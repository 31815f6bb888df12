"""The faults: a killed run is completed, damage is counted, and the page gets its table."""

import shutil
import signal
from pathlib import Path

import pytest
from benchmarks.faults import __main__ as command_line
from benchmarks.faults import flips, mutated_media, resources
from benchmarks.faults.clips import Clips, Ended
from benchmarks.faults.disturbed import POINTS
from benchmarks.faults.fault import Fault, Result


def test_a_run_that_is_killed_at_a_point_is_completed(tmp_path: Path) -> None:
    clips = Clips.make(tmp_path, 2)
    point = "a file is synced and not renamed"
    assert point in POINTS
    killed = clips.run("extract", "store", ("--kill", point, "2"))
    assert killed.code == -signal.SIGKILL
    assert not clips.shards("store")
    assert clips.run("extract", "store").code == 0
    assert len(clips.shards("store")) == 3
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "store", other)
    first, second, _ = sorted(other.rglob("*.h5"))
    first.unlink()
    second.write_bytes(b"")
    assert clips.differing("store", "store") == 0
    assert clips.differing("store", "other") == clips.differing("other", "store") == 2


def test_damaged_media_and_flipped_bits_are_counted(tmp_path: Path) -> None:
    for name in ("media", "flips"):
        (tmp_path / name).mkdir()
    found = mutated_media.cause(tmp_path / "media", 8, 0)
    assert (found.tried, found.lost) == (8, 0), found.outcome
    found = flips.cause(tmp_path / "flips", 6, 0)
    assert found.tried == 6
    assert "of 2 missed, similarity file: " in found.outcome


def test_what_is_lost_to_a_resource_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(self: Clips, verb: str, store: str, **_: object) -> Ended:
        ran.append(verb)
        return Ended(1, f"Traceback\nm2hf: {self.folder}: no space")

    monkeypatch.setattr(Clips, "make", lambda folder, _: Clips(folder))
    monkeypatch.setattr(Clips, "run", run)
    monkeypatch.setattr(Clips, "differing", lambda *_: 2)
    monkeypatch.setattr(Clips, "quarantined", lambda *_: 1)
    disk = next(each for each in resources.RESOURCES if each.name == "disk")
    found = disk.cause(tmp_path, 2, 0)
    assert ran == ["extract", *(["extract", "retry", "extract"] * 2)]
    assert (found.tried, found.lost) == (2, 8)
    assert found.outcome == 'exit codes 1; 2 tracebacks; ": no space"'


def test_the_table_is_put_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n<!-- faults -->\n| old |\n<!-- end of faults -->\nafter\n", encoding="utf-8"
    )
    faults = [
        Fault(name, f"what {name} is", 5, lambda _, count, seed: Result(count, seed, "so"))
        for name in ("first", "second")
    ]
    monkeypatch.setattr(command_line, "FAULTS", faults)
    assert command_line.main(["--out", str(page)]) == 0
    assert command_line.main(["--seed", "1", "--count", "2", "--only", "second"]) == 1
    assert "| what second is (`second`) | 2 | 1 | so | 0 |" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Page\n\n<!-- faults -->\n\n| fault | tried | lost or missed |")
    assert "| what first is (`first`) | 5 | 0 | so | 0 |\n" in text
    assert text.endswith("<!-- end of faults -->\nafter\n")
    assert "| old |" not in text
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="the page needs the lines"):
        command_line.main(["--out", str(page)])
