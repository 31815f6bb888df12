"""The control of a failed decode passes where ffmpeg works, and says why it doesn't."""

from pathlib import Path

import pytest

from m2hf.errors import ResourceError
from m2hf.extract.media import control


@pytest.mark.parametrize("outputs", [1, 8])
def test_it_passes_where_ffmpeg_works(outputs: int) -> None:
    control.check_ffmpeg(outputs)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo '[x] Cannot allocate memory' >&2; exit 1", r"\[x\] Cannot allocate memory"),
        ("cat > /dev/null; exit 3", "exit code 3"),
        ("kill -9 $$", "exit code -9"),
        ("exec sleep 60", r"no answer in 0\.2 s"),
    ],
)
def test_a_failure_is_no_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    fake.chmod(0o755)
    monkeypatch.setattr(control, "ffmpeg_exe", lambda: str(fake))
    monkeypatch.setattr(control, "_TIMEOUT_S", 0.2 if "sleep" in script else 60.0)
    with pytest.raises(ResourceError, match=rf"no clip is to blame: {reason}; use fewer workers"):
        control.check_ffmpeg(1)
