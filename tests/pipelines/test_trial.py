"""A clip is in quarantine only if it kills the process that tries it alone, and that repeats."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from corpus import CLOCK, COUNTS, FAULT, HOOKS, POISON, Command, ExtractionCorpus
from kills import M2HF, ONLY, run, small_corpus, survive

from m2hf.pipelines.job import JobSpec
from m2hf.pipelines.plan import BucketTask
from m2hf.pipelines.trial import TrialRequest

SUSPECTED = "run started kill_group"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ExtractionCorpus:
    return small_corpus(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def calm(corpus: ExtractionCorpus, m2hf: Command) -> dict[str, bytes]:
    """The bytes of a run without incident."""
    assert m2hf("extract", *corpus.options("calm", only=ONLY)).returncode == 0
    return corpus.shards("calm")


def extract(corpus: ExtractionCorpus, store: str, **environment: str) -> tuple[int, str]:
    """Exit code and stderr."""
    done = run([M2HF, "extract", *corpus.options(store, only=ONLY)], **{**HOOKS, **environment})
    return done.returncode, done.stderr


def counts(corpus: ExtractionCorpus, m2hf: Command, store: str) -> dict[str, Any]:
    found: dict[str, Any] = corpus.status(m2hf, store, only=ONLY)["extractors"]
    return found


def test_kills_at_every_point_leave_no_clip_in_quarantine(
    corpus: ExtractionCorpus, calm: dict[str, bytes]
) -> None:
    """Several times each: a clip that is in work whenever the machine goes down is no cause."""
    faults = ["run decoded kill_group", *[SUSPECTED] * 2, *["trial started kill_group"] * 2]
    for fault in (*faults, "trial done kill_group", *["trial started kill_one_by_one"] * 2):
        code, stderr = extract(corpus, "points", **{FAULT: fault})
        assert code == -signal.SIGKILL, (fault, stderr)
    code, stderr = extract(corpus, "points")
    assert code == 0, stderr
    assert corpus.shards("points") == calm
    assert not list((corpus.folder / "points").rglob(".*.tmp-*"))


def test_kills_at_random_points_change_no_byte(tmp_path: Path) -> None:
    assert survive(small_corpus(tmp_path / "corpus"), count=3, seed=1) >= 1


def test_a_poison_clip_among_kills_from_outside_is_found_whatever_the_clock_says(
    corpus: ExtractionCorpus, calm: dict[str, bytes], m2hf: Command
) -> None:
    """The clock is set back by three more hours for each run."""
    for hours, fault in enumerate((SUSPECTED, "trial started kill_group", "run died kill_group")):
        given = {POISON: "id/4", CLOCK: str(3 * hours), FAULT: fault}
        assert extract(corpus, "both", **given)[0] == -signal.SIGKILL
    code, stderr = extract(corpus, "both", **{POISON: "id/4", CLOCK: "9"})
    assert code == 3, stderr
    assert counts(corpus, m2hf, "both") == {
        "thumbnail": {**COUNTS, "ok": 6},
        "flow": {**COUNTS, "ok": 5, "quarantined": 1},
    }
    retry = [M2HF, "retry", *corpus.options("both", only=ONLY)]
    assert run(retry, **HOOKS, **{CLOCK: "12"}).returncode == 0
    assert corpus.shards("both") == calm


def test_an_end_that_is_no_clips_fault_stops_the_run_with_one_line(
    corpus: ExtractionCorpus, calm: dict[str, bytes]
) -> None:
    assert extract(corpus, "ended", **{FAULT: SUSPECTED})[0] == -signal.SIGKILL
    for fault, message in (
        ("trial started terminate", "SIGTERM ended the process that tried clips alone"),
        ("trial __init__ vanish", "died at none of them (exit code 7)"),
    ):
        code, stderr = extract(corpus, "ended", **{FAULT: fault})
        assert code == 1
        assert message in stderr.splitlines()[-1]
        assert "Traceback" not in stderr
    assert extract(corpus, "ended")[0] == 0
    assert corpus.shards("ended") == calm


def test_a_clip_that_fails_when_it_is_tried_alone_has_failed(
    corpus: ExtractionCorpus, m2hf: Command
) -> None:
    (first, *_) = sorted(corpus.media.iterdir())
    assert extract(corpus, "absent", **{FAULT: "run started kill_group"})[0] == -signal.SIGKILL
    away = first.rename(first.with_suffix(".away"))
    try:
        assert extract(corpus, "absent")[0] == 3
    finally:
        away.rename(first)
    assert counts(corpus, m2hf, "absent")["flow"] == {**COUNTS, "ok": 5, "failed": 1}


def test_a_request_survives_the_transfer() -> None:
    spec = JobSpec("m", "d", "media", "s", "{}", ("flow",), "w", (("flow", "0" * 64),))
    task = BucketTask(3, ("flow", "logmel"), 1, (("ä\n", "flow@12345678"),))
    request = TrialRequest(spec, task, ("a", "\u2028"))
    assert TrialRequest.parse(request.line()) == request
    assert json.loads(request.line())
    assert request.line().isascii()
    assert "\n" not in request.line()
