"""The ratios are of equal work: both ways of scoring agree, and the table has each pair."""

import json
from pathlib import Path

import pytest
import torch
from benchmarks.ratios import __main__ as ratios
from benchmarks.ratios.features import random_tokens
from benchmarks.ratios.plain import einsum_interaction

from m2hf.fuse.config import ModelConfig
from m2hf.fuse.model.scorers import TokenwiseScorer


@torch.inference_mode()
def test_the_plain_einsum_is_the_scorer() -> None:
    queries, videos = random_tokens(130, 1, 9, sentence=True), random_tokens(7, 1, 5)
    torch.testing.assert_close(
        TokenwiseScorer(512, ModelConfig())(queries, videos), einsum_interaction(queries, videos)
    )


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        path = tmp_path / "ratios.json"
        assert ratios.main(["--videos", "40", "--gallery", "20", "--json", str(path)]) == 0
    finally:
        torch.set_num_threads(threads)
    rows = json.loads(path.read_text())
    assert len(rows) == 3
    assert all(row["ratio"] > 0 for row in rows.values())
    assert capsys.readouterr().out.count("|") == 5 * 5
