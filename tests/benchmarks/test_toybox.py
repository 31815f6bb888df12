"""The benchmark on the toybox, on a small corpus of the same form."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.levels import corpus
from benchmarks.toybox.__main__ import main

from m2hf.fuse import curves
from m2hf.manifest import captions_of

QUICK = ("device=cpu", "train.patience=1", "streams.audio=audio", "streams.motion=motion")
QUICK += ("levels.words.enabled=false",)  # these streams have no strings
SET = [part for setting in QUICK for part in ("--set", f"fuse.{setting}")]


def test_rows_of_runs_kinds_and_levels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "draw", lambda log, path: None)
    setting = corpus.SETTINGS["small"]
    sizes = corpus.Sizes(train=40, val=8, test=20, captions=1)
    manifest = corpus.write(tmp_path / "store", setting, 0, {}, sizes)
    manifest.save(tmp_path / "manifest")
    queries = [caption.id for caption in captions_of(manifest.rows)]
    kinds = {query: "look" if place % 3 else "motion" for place, query in enumerate(queries)}
    lines = [f"{query},{kind}\n" for query, kind in kinds.items()]
    (tmp_path / "kinds.csv").write_text("id,kind\n" + "".join(lines))
    out = tmp_path / "out.json"
    assert main(["--data", str(tmp_path), "--seeds", "2", "--json", str(out), *SET]) == 0
    printed = capsys.readouterr()
    assert "ensemble, seed 1: done" in printed.err
    assert "late_fusion" in printed.out

    rows: dict[str, Any] = json.loads(out.read_text())["rows"]
    assert {"zero_shot", "ensemble", "end_to_end"} <= set(rows)
    count = Counter(kinds[c.id] for c in captions_of(manifest.split("test")))
    for run, table in rows.items():
        assert set(table) == {"look", "motion", "all"}
        assert set(table["all"]) == {"visual", "audio_visual", "motion_visual", "text", "fused"}
        for level, recalls in table["all"].items():
            assert len(recalls) == (1 if run == "zero_shot" else 2)
            for seed, recall in enumerate(recalls):
                parts = [n * table[kind][level][seed] for kind, n in count.items()]
                assert sum(parts) / count.total() == pytest.approx(recall)
    assert rows["ensemble"]["look"] != rows["ensemble"]["motion"]


def test_a_folder_without_features_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
