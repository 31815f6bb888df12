"""The benchmark of growth: its exponents, and every operation at the least size."""

import json
from pathlib import Path

import pytest
from benchmarks.scale.__main__ import main
from benchmarks.scale.growth import exponents, too_steep
from benchmarks.scale.operations import LEAST_CLIPS, QUERY, SEARCH, Usage, measured

from m2hf.errors import M2hfError


def grown(cpu_s: float, peak_mb: float) -> dict[int, Usage]:
    """Ten times the clips take ten times the rest, after `cpu_s` and `peak_mb`."""
    return {
        10: Usage(1.0, 1.0, 1.0),
        100: Usage(cpu_s, 1.0, peak_mb),
        1000: Usage(10 * cpu_s, 1.0, 10 * peak_mb),
    }


def test_the_exponent_is_that_of_the_two_largest_sizes() -> None:
    assert exponents(grown(40.0, 900.0)) == pytest.approx((1, 1))
    squared = {100: Usage(2.0, 1.0, 50.0), 1000: Usage(200.0, 1.0, 5000.0)}
    assert exponents(squared) == pytest.approx((2, 2))
    assert exponents({100: Usage(2.0, 1.0, 50.0)}) is None


def test_what_grows_too_fast_is_found_where_constants_do_not_decide() -> None:
    assert not too_steep(grown(40.0, 900.0))
    assert not too_steep({10: Usage(1.0, 1.0, 1.0)})
    for larger, steep in (
        (Usage(3.0, 1.0, 10.0), True),
        (Usage(1.9, 1.0, 10.0), False),
        (Usage(0.1, 1.0, 600.0), True),
        (Usage(0.1, 1.0, 500.0), False),
    ):
        assert too_steep({10: Usage(0.1, 1.0, 10.0), 100: larger}) is steep, larger


def test_every_operation_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scale.json"
    assert main(["--sizes", str(LEAST_CLIPS), "--json", str(out), "--in", str(tmp_path)]) == 0
    found = json.loads(out.read_text())
    assert [*found][:6] == ["check", "plan", "empty run", "status", "verify", "retry"]
    assert [*found][6:] == ["train start", SEARCH, QUERY]
    printed = capsys.readouterr().out
    for name, of in found.items():
        assert of[str(LEAST_CLIPS)]["cpu_s"] > 0, name
        assert f"| {name} | {LEAST_CLIPS} | " in printed
    assert [*tmp_path.iterdir()] == [out]


def test_too_few_clips_and_a_command_that_fails_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--sizes", str(LEAST_CLIPS - 1)])
    (tmp_path / "media").mkdir()  # so that nothing can be written there
    with pytest.raises(M2hfError, match=r"(?s)scale\.store .*exit code 1: .*FileExists"):
        measured(tmp_path, LEAST_CLIPS)
