"""Extraction gives equal bytes with every executor and after kills; every clip has an outcome."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import media
import psutil
import pytest
import torch
from corpus import COUNTS, HOOKS, POISON, ExtractionCorpus, LedgerFiles
from hdf5_mutations import unsealed

from m2hf.errors import UsageError
from m2hf.manifest import Manifest
from m2hf.pipelines.executors import ArrayExecutor
from m2hf.pipelines.plan import BucketTask
from m2hf.shard import Shard

Command = Callable[..., "subprocess.CompletedProcess[str]"]
M2HF = str(Path(sys.executable).parent / "m2hf")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> ExtractionCorpus:
    """Ten good clips that differ."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "media").mkdir()
    files = {}
    for i in range(10):
        source = ("testsrc2", "testsrc", "smptebars", "rgbtestsrc")[i % 4]
        path = folder / "media" / f"clip{i}.mp4"
        files[f"id/{i}"] = media.good(path, seconds=1 + i / 10, tone=200 + 90 * i, source=source)
    return ExtractionCorpus(folder, files, tiny)


@pytest.fixture(scope="module")
def serial(corpus: ExtractionCorpus, m2hf: Command) -> dict[str, bytes]:
    """The bytes of a run in one process, without incident."""
    done = m2hf("extract", *corpus.options("serial"))
    assert done.returncode == 0, done.stderr
    shards = corpus.shards("serial")
    assert len(shards) == 4 * 4 + 1
    return shards


def test_a_flag_of_the_data_set_is_in_the_shards_it_names(
    corpus: ExtractionCorpus, serial: dict[str, bytes]
) -> None:
    root = corpus.folder / "serial"
    for path in (path for path in serial if path.endswith(".h5")):
        flags = set(Shard.open(root / path).header.flags)
        assert ("a flag" in flags) == Path(path).parent.name.startswith("logmel@")


def test_dask_with_two_workers_gives_the_same_bytes(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    done = m2hf("extract", *corpus.options("dask"), "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert corpus.shards("dask") == serial


def test_an_array_job_gives_the_same_bytes(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    for share in ("1/2", "0/2"):
        done = m2hf("extract", *corpus.options("array"), "--array", share)
        assert done.returncode == 0, done.stderr
    assert corpus.shards("array") == serial


def kill_after(
    command: list[str],
    ledger: LedgerFiles,
    count: int,
    victim: Callable[[int], int] = lambda pid: pid,
) -> int:
    """Start a command, SIGKILL `victim` of it once the ledger has `count` lines, and wait."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and ledger.lines() < count:
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(victim(process.pid), signal.SIGKILL)
    return process.wait(timeout=300)


def test_killed_half_way_and_resumed_gives_the_same_bytes(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    command = [M2HF, "extract", *corpus.options("killed")]
    ledger = corpus.ledger("killed")
    for count in (20, 60):
        code = kill_after(command, ledger, ledger.lines() + count)
        assert code == -signal.SIGKILL
        assert set(corpus.shards("killed").items()) <= set(serial.items())
    assert 0 < len(corpus.shards("killed")) < len(serial)
    assert m2hf(*command[1:]).returncode == 0
    assert corpus.shards("killed") == serial
    assert not list((corpus.folder / "killed").rglob(".*.tmp-*"))


def test_a_killed_worker_is_replaced_and_the_bytes_are_the_same(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    def worker(pid: int) -> int:
        spawned = psutil.Process(pid).children(recursive=True)
        return next(int(p.pid) for p in spawned if "spawn_main" in " ".join(p.cmdline()))

    command = [M2HF, "extract", *corpus.options("worker"), "--workers", "2"]
    ledger = corpus.ledger("worker")
    assert kill_after(command, ledger, 30, victim=worker) == 0
    assert corpus.shards("worker") == serial


def test_an_interrupted_clip_counts_no_death(corpus: ExtractionCorpus, m2hf: Command) -> None:
    command = [M2HF, "extract", *corpus.options("interrupted")]
    ledger = corpus.ledger("interrupted")
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while ledger.lines() < 30:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.endswith("m2hf: interrupted; run the same command again to resume\n")
    (file,) = ledger.files()
    assert json.loads(file.read_text().splitlines()[-1])["event"] != "started"


def test_running_again_does_nothing(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    done = m2hf("extract", *corpus.options("serial"))
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    assert corpus.shards("serial") == serial
    assert m2hf("verify", *corpus.options("serial")[:2], *corpus.options("serial")[4:6]).stdout == (
        "16 shards, 50 items verified, 0 shards damaged\n"
    )


def test_status_counts_every_item(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    now = corpus.status(m2hf, "serial", only="clip,caption,flow,text")
    assert now["extractors"] == {
        "clip": {**COUNTS, "ok": 10},
        "caption": {**COUNTS, "ok": 20},
        "flow": {**COUNTS, "ok": 10},
        "text": {**COUNTS, "missing": 10},
    }
    assert now["failures"] == []


def test_a_new_video_keeps_old_rows_and_touches_only_its_bucket(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command, tmp_path: Path
) -> None:
    shutil.copytree(corpus.folder / "serial", corpus.folder / "grown")
    old = Manifest.load(corpus.folder / "manifest")
    added = old.rows[0].model_copy(update={"id": "new"})
    Manifest(old.card, (*old.rows, added)).save(tmp_path)
    options = corpus.options("grown", only="flow")
    options[1] = str(tmp_path)
    assert m2hf("extract", *options).returncode == 0
    changed = [name for name, data in corpus.shards("grown").items() if serial.get(name) != data]
    assert len(changed) == 1
    assert "flow@" in changed[0]


def test_a_changed_caption_is_embedded_again(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command, tmp_path: Path
) -> None:
    shutil.copytree(corpus.folder / "serial", corpus.folder / "changed")
    old = Manifest.load(corpus.folder / "manifest")
    other = old.rows[3].model_copy(update={"captions": ("something else", "another")})
    Manifest(old.card, (*old.rows[:3], other, *old.rows[4:])).save(tmp_path)
    options = corpus.options("changed", only="caption")
    options[1] = str(tmp_path)
    assert json.loads(m2hf("plan", *options, "--json").stdout)["extractors"]["caption"] == {
        **COUNTS, "ok": 19, "missing": 1,
    }  # fmt: skip
    assert m2hf("extract", *options).returncode == 0


def test_a_damaged_shard_is_named_and_done_again(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    shutil.copytree(corpus.folder / "serial", corpus.folder / "damaged")
    names = sorted(name for name in serial if "flow@" in name)
    short, flipped = (corpus.folder / "damaged" / name for name in names[:2])
    short.write_bytes(short.read_bytes()[:1000])
    with h5py.File(flipped, "a") as file:
        file["values"][0, 0] += 1
    options = corpus.options("damaged", only="flow")
    verify = m2hf("verify", *options[:2], *options[4:8], "--json")
    assert verify.returncode == 3
    assert [d["shard"] for d in json.loads(verify.stdout)["damaged"]] == names[:2]
    flipped.unlink()
    done = m2hf("extract", *options)
    assert done.returncode == 0, done.stderr
    assert f"{names[0]}: damaged shard" in done.stderr
    assert corpus.shards("damaged") == serial


def test_a_shard_of_another_version_stops_everything(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    shutil.copytree(corpus.folder / "serial", corpus.folder / "version")
    path = next((corpus.folder / "version").rglob("flow@*/*.h5"))
    before = unsealed(path, 7).read_bytes()
    done = m2hf("extract", *corpus.options("version", only="flow"))
    assert done.returncode == 2
    remark, refused = done.stderr.splitlines()
    assert remark.startswith("m2hf: the recipe is that of the store")
    assert refused.startswith(
        f"m2hf: {path}: m2hf.shard schema version 7, this m2hf reads version 1 and 2"
    )
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> ExtractionCorpus:
    folder = tmp_path_factory.mktemp("odd-corpus")
    files = media.odd_corpus(folder / "media")
    return ExtractionCorpus(folder, {**files, "absent": folder / "media" / "absent.mp4"}, tiny)


def test_an_odd_corpus_ends_with_every_file_accounted_for(
    odd: ExtractionCorpus, m2hf: Command
) -> None:
    done = m2hf("extract", *odd.options("store"), "--workers", 2)
    assert done.returncode == 3, done.stderr
    now = odd.status(m2hf, "store")
    assert now["extractors"] == {
        "clip": {**COUNTS, "ok": 4, "empty": 1, "failed": 4},
        "caption": {**COUNTS, "ok": 18},
        "logmel": {**COUNTS, "ok": 3, "empty": 2, "failed": 4},
        "flow": {**COUNTS, "ok": 3, "empty": 2, "failed": 4},
    }
    failures = {(f["id"], f["extractor"]): f for f in now["failures"]}
    assert {item for item, _ in failures} == {"garbage", "headless", "zero_bytes", "absent"}
    assert failures[("zero_bytes", "clip")] == {
        "id": "zero_bytes",
        "extractor": "clip",
        "stage": "decode",
        "class": "MediaError",
        "message": "the file is empty (0 bytes)",
        "attempt": 1,
    }
    remarks = {(r["id"], r["extractor"]): r["message"] for r in now["remarks"]}
    assert remarks[("no_audio", "logmel")] == "no audio stream"
    assert remarks[("audio_only", "clip")] == "no video stream"
    assert remarks[("one_frame", "flow")] == "fewer than two frames"
    assert remarks[("truncated", "clip")].startswith("the frames end at ")
    assert remarks[("truncated", "logmel")].startswith("the sound ends at ")
    assert m2hf("extract", *odd.options("store")).returncode == 3  # and nothing is tried again


def test_retry_tries_again_what_failed(odd: ExtractionCorpus, m2hf: Command) -> None:
    shutil.copytree(odd.folder / "media", odd.folder / "mended")
    shutil.copy(odd.folder / "mended" / "good.mp4", odd.folder / "mended" / "absent.mp4")
    options = odd.options("store", only="flow")
    options[3] = str(odd.folder / "mended")
    assert m2hf("retry", *options).returncode == 3
    now = odd.status(m2hf, "store", only="flow")
    assert now["extractors"]["flow"] == {**COUNTS, "ok": 4, "empty": 2, "failed": 3}


def test_a_poison_clip_is_quarantined_and_the_rest_is_extracted(
    corpus: ExtractionCorpus, m2hf: Command
) -> None:
    command = [M2HF, "extract", *corpus.options("poison", only="logmel,flow")]
    environment = {**os.environ, **HOOKS, POISON: "id/4"}
    codes = [
        subprocess.run(command, env=environment, capture_output=True).returncode for _ in "123"
    ]
    assert codes == [-signal.SIGKILL, 3, 3]
    now = corpus.status(m2hf, "poison", only="logmel,flow")
    assert now["extractors"] == {
        "logmel": {**COUNTS, "ok": 10},
        "flow": {**COUNTS, "ok": 9, "quarantined": 1},
    }
    (failure,) = now["failures"]
    assert (failure["id"], failure["class"]) == ("id/4", "Quarantined")
    assert failure["message"] == "the process died 2 times at stage extract (SIGKILL)"
    assert m2hf("retry", *corpus.options("poison", only="flow")).returncode == 0


def test_a_run_reports_its_overhead(corpus: ExtractionCorpus, m2hf: Command) -> None:
    options = corpus.options("spent", only="clip")
    done = m2hf("extract", *options)
    assert re.search(
        r"s in 1 process, models [0-9.]+ s: [0-9.]+ times the models' own", done.stderr
    )
    (file,) = corpus.ledger("spent").files()
    events = [json.loads(line) for line in file.read_text().splitlines()]
    ok = [event for event in events if event["event"] == "ok"]
    assert len(ok) == 10
    assert all(0 < event["model_seconds"] < event["seconds"] for event in ok)
    assert sum(event["event"] == "decoded" for event in events) == 10
    assert m2hf("extract", *options).stderr.splitlines()[-1] == "nothing to do"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_one_line(corpus: ExtractionCorpus, m2hf: Command) -> None:
    options = corpus.options("no-device", only="clip")
    done = m2hf("extract", *options, "--set", "extract.device=cuda")
    assert done.returncode == 1
    assert "extract.device = 'cuda'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_poison_clip_costs_one_worker_and_no_run(corpus: ExtractionCorpus, m2hf: Command) -> None:
    environment = {**os.environ, **HOOKS, POISON: "id/4"}
    command = [M2HF, "extract", *corpus.options("poison-dask", only="flow"), "--workers", "2"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 3
    now = corpus.status(m2hf, "poison-dask", only="flow")
    assert now["extractors"]["flow"] == {**COUNTS, "ok": 9, "quarantined": 1}


def test_an_error_in_a_worker_ends_the_run_with_its_message(
    corpus: ExtractionCorpus, m2hf: Command, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        """
import sys
from m2hf.ledger import LedgerWriter

class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("not this one")

def fail(self, *arguments):
    raise Unpicklable("no such luck")

LedgerWriter.started = fail
""",
        encoding="utf-8",
    )
    command = [M2HF, "extract", *corpus.options("broken", only="flow"), "--workers", "1"]
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": str(broken)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no such luck" in done.stderr


def test_an_existing_cluster_gives_the_same_bytes(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command
) -> None:
    code = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""
    script = corpus.folder / "cluster.py"
    script.write_text(code, encoding="utf-8")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], **pipes) as cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        done = m2hf("extract", *corpus.options("cluster"), "--scheduler", address)
        cluster.communicate("")
    assert done.returncode == 0, done.stderr
    assert corpus.shards("cluster") == serial


def test_a_file_with_another_sha256_than_the_manifest_is_a_failure(
    corpus: ExtractionCorpus, m2hf: Command, tmp_path: Path
) -> None:
    old = Manifest.load(corpus.folder / "manifest")
    other = old.rows[0].model_copy(update={"sha256": "0" * 64})
    Manifest(old.card, (other,)).save(tmp_path)
    options = corpus.options("content", only="flow")
    options[1] = str(tmp_path)
    assert m2hf("extract", *options).returncode == 3


def test_missing_inputs_of_derived_features_are_named(
    corpus: ExtractionCorpus, m2hf: Command
) -> None:
    done = m2hf("extract", *corpus.options("lacking", only="text"))
    assert done.returncode == 2
    assert "text reads ocr, and the store has no ocr@" in done.stderr


@pytest.mark.parametrize("text", ["2/2", "a/2", "1", "-1/2", "0/0"])
def test_an_invalid_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected i/n with 0 <= i < n"):
        ArrayExecutor.parse(text)


def test_the_shares_of_an_array_job_are_a_partition() -> None:
    tasks = [BucketTask(bucket, ("clip",)) for bucket in range(17)]
    shares = [ArrayExecutor(i, 5).share(tasks) for i in range(5)]
    assert sorted(t.bucket for share in shares for t in share) == list(range(17))
