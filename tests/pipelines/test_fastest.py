"""A store's first run measures precisions, keeps its choice, and every run follows it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
from corpus import ExtractionCorpus

from m2hf.errors import ResourceError, SchemaError
from m2hf.extract.clip import FrameEncoder
from m2hf.extract.media import decode
from m2hf.features import Features
from m2hf.layout import StoreLayout
from m2hf.pipelines import bucket, extraction, fastest, precision
from m2hf.pipelines.executors import SerialExecutor
from m2hf.pipelines.job import Job

Command = Callable[..., Any]
AUTO = ("--set", "extract.clip.precision=auto", "--set", "extract.audio.precision=auto")


@pytest.fixture
def corpus(tmp_path: Path, tiny: tuple[str, ...]) -> ExtractionCorpus:
    """A broken clip, one without sound, and two with sound."""
    (tmp_path / "media").mkdir()
    makers = {"0": media.no_audio, "1": media.good, "2": media.good}
    files = {}
    for name, maker in makers.items():
        files[f"id{name}"] = maker(tmp_path / "media" / f"{name}.mp4")
    files["id"] = tmp_path / "media" / "broken.mp4"
    files["id"].write_bytes(b"no media")
    return ExtractionCorpus(tmp_path, files, (*tiny, *AUTO))


@pytest.fixture
def prepare(corpus: ExtractionCorpus) -> Callable[..., Job]:
    """The job on a store of clip and audio, whose precision is "auto"."""

    def made(store: str, **device: str) -> Job:
        tiny = {"model": "m2hf-tiny", "pretrained": ""}
        section: dict[str, Any] = {
            "buckets": 2,
            "encoder": tiny,
            "clip": {"precision": "auto"},
            "audio": {**tiny, "precision": "auto"},
            **device,
        }
        paths = (corpus.folder / "manifest", corpus.media, corpus.folder / store)
        return Job.prepare(*paths, section, ("clip", "audio"))

    return made


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds by precision that models take, as far as the trial can tell."""
    seconds = {"float32": 4.0, "bfloat16": 1.0}
    timed = fastest._timed

    def told(extractor: Any, *given: Any) -> tuple[Features, float]:
        return timed(extractor, *given)[0], seconds[extractor.precision]

    monkeypatch.setattr(fastest, "_timed", told)
    monkeypatch.setattr(fastest, "has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    return seconds


def record(job: Job) -> dict[str, Any]:
    text = (job.layout.folder / "store.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_faster_precision_is_kept_and_is_part_of_the_fingerprint(
    prepare: Callable[..., Job], times: dict[str, float]
) -> None:
    first = prepare("store")
    assert first.undecided == ("clip", "audio")
    chosen = list(fastest.choose(first))
    assert [(c.name, c.precision, c.share) for c in chosen] == [
        ("clip", "bfloat16", 0.25),
        ("audio", "bfloat16", 0.25),
    ]
    assert all(c.cosine is not None and c.cosine >= fastest.LEAST_COSINE for c in chosen)
    assert record(first)["precision"] == {
        first.stream("clip"): "bfloat16",
        first.stream("audio"): "bfloat16",
    }
    assert list(fastest.choose(first)) == []  # a process that waited for the lock
    times["bfloat16"] = 9.0  # what a later run would measure doesn't count
    later = prepare("store")
    assert later.undecided == ()
    assert dict(later.spec.chosen) == {"clip": "bfloat16", "audio": "bfloat16"}
    declared = later.declared["clip"]["config"]
    assert declared["precision"] == "bfloat16"
    assert Job.open(later.for_workers("cpu")).fingerprints == later.fingerprints
    assert list(extraction.extract(later, SerialExecutor(), extraction.plan(later)))
    counts = extraction.status(prepare("store")).counts
    assert counts["clip"] == {"ok": 3, "empty": 0, "failed": 1, "quarantined": 0, "missing": 0}


@pytest.mark.parametrize("reason", ["slower", "hardly faster", "other vectors", "refused"])
def test_float32_stays_where_bfloat16_is_no_gain_or_differs(
    prepare: Callable[..., Job],
    times: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
) -> None:
    times["bfloat16"] = {"slower": 32.0, "hardly faster": 3.7}.get(reason, 1.0)
    if reason == "other vectors":
        monkeypatch.setattr(fastest, "least_cosine", lambda one, other: 0.9989)
    if reason == "refused":

        def refuse(*_: Any) -> None:
            raise ResourceError("the cosine is low")

        monkeypatch.setattr("m2hf.extract.networks.preprocessing.ImageTower._to_bfloat16", refuse)
    job = prepare("store")
    clip = next(iter(fastest.choose(job)))
    assert (clip.name, clip.precision) == ("clip", "float32")
    assert (clip.share is None) == (reason == "refused")
    assert "float32" in str(clip)
    settled = prepare("store")
    plain = FrameEncoder.model_validate({"encoder": {"model": "m2hf-tiny", "pretrained": ""}})
    assert settled.fingerprints["clip"] == plain.fingerprint()


def test_a_trial_reads_no_more_clips_than_it_needs(
    prepare: Callable[..., Job], times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: Path, *given: Any, **more: Any) -> Any:
        read.append(path.name)
        return decode.decode(path, *given, **more)

    monkeypatch.setattr("m2hf.pipelines.clips.decode", counted)
    job = prepare("store")
    list(fastest.choose(job))
    assert read == ["broken.mp4", "0.mp4", "broken.mp4", "0.mp4", "1.mp4"]
    read.clear()
    job = prepare("store")
    list(extraction.extract(job, SerialExecutor(), extraction.plan(job)))
    assert sorted(read) == ["0.mp4", "1.mp4", "2.mp4", "broken.mp4"]


def test_a_machine_that_cannot_follow_says_so_before_any_clip_is_read(
    prepare: Callable[..., Job], times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(fastest.choose(prepare("store")))
    job = prepare("store")
    bucket._drop_models("cpu")
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr("m2hf.pipelines.clips.decode", None)
    tasks = extraction.extract(job, SerialExecutor(), extraction.plan(job))
    message = r"extract\.clip\.precision = 'bfloat16', the choice of this store, is not supported"
    with pytest.raises(ResourceError, match=message):
        list(tasks)


def test_a_processor_may_emulate_what_the_config_asks_for_and_cuda_may_not(
    prepare: Callable[..., Job], times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    config = prepare("store").config
    section = {**config.model_dump(), "clip": {"precision": "bfloat16"}}
    asked = type(config).model_validate(section)
    precision.require_bfloat16(asked, ("clip",), {}, "cpu")
    with pytest.raises(ResourceError, match="not supported by the cuda of this machine"):
        precision.require_bfloat16(asked, ("clip",), {}, "cuda")


def test_a_damaged_record_is_one_line(prepare: Callable[..., Job], tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path / "store", "corpus")
    layout.record(2)
    layout.record_precisions({"clip@00000000": "int3"})
    with pytest.raises(SchemaError, match=r"precision = .*, expected bfloat16 or float32"):
        prepare("store")


def test_the_least_cosine_is_of_the_worst_row() -> None:
    one = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert fastest.least_cosine(one, one * 3) == pytest.approx(1.0)
    other = np.array([[1.0, 0.0], [2.0, 2.0]])
    assert fastest.least_cosine(one, other) == pytest.approx(np.sqrt(0.5))


def test_the_commands_measure_once_print_the_choice_and_follow_it(
    corpus: ExtractionCorpus, m2hf: Command
) -> None:
    options = corpus.options("store", only="clip")
    planned = m2hf("plan", *options)
    assert "precision of clip: auto (not measured yet)" in planned.stdout
    assert not (corpus.folder / "store").exists()
    refused = m2hf("extract", *options, "--scheduler", "tcp://127.0.0.1:1")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "is measured in this process, not by the workers" in refused.stderr
    done = m2hf("extract", *options)
    assert done.returncode == 3, done.stderr  # a clip is broken
    choice = re.match(r"precision of clip: (float32|bfloat16) \(", done.stderr)
    assert choice, done.stderr
    printed = json.loads(m2hf("plan", *options, "--json").stdout)
    assert printed["precision"] == {"clip": choice[1]}
    assert printed["extractors"]["clip"]["ok"] == 3
