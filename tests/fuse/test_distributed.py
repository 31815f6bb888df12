"""Training by two processes equals training by one with the same batches."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from checkout import HELPERS
from safetensors.torch import load_file

from m2hf.errors import MismatchError, UsageError
from m2hf.fuse import curves
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.distributed import SINGLE_PROCESS, PeerLost, ProcessGroup, process_group
from m2hf.fuse.training.run import train

SCRIPT = HELPERS / "one_of_several.py"
M2HF = Path(sys.executable).with_name("m2hf")
PATIENCE_S = 300  # of a test, until it says that a process hangs

# A softmax cancels what is added to all that it weighs (keys, rows, words), and a ranking what is
# added to all videos (a bias, or the offset of a level far above its floor): there the gradient is
# rounding, which Adam scales up.
WITHOUT_GRADIENT = ("attention.key.bias", "_weight.2.bias", "bias_L", "offset_L")

OWN = {"width": 32, "heads": 4, "dropout": 0.0, "own_captions": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "mean": {"balance": {"form": "gradient"}},
    "mixture": {"balance": {"form": "mixture"}, "model": OWN, "late": {"rule": "mention"}},
    # 120 captions: the last batch is one caption, so that the second process has no share.
    "wti": {"scoring": "wti", "batch_size": 17, "completion": {"mode": "predict", "dropout": 0.0}},
    "ensemble": {
        "strategy": "ensemble",
        "batch_size": 33,
        "levels": {"visual": {"enabled": False}, "audio_visual": {"enabled": False}},
    },
}


def variant(config: FusionConfig, **changes: Any) -> FusionConfig:
    train = {**config.train.model_dump(), "epochs": 2, "lr": 1e-3}
    if "batch_size" in changes:
        train["batch_size"] = changes.pop("batch_size")
    return FusionConfig.model_validate({**config.model_dump(), "train": train, **changes})


def drawing(config: FusionConfig) -> FusionConfig:
    """With dropout of both kinds."""
    model = {**config.model.model_dump(), "dropout": 0.2}
    return variant(config, model=model, completion={"mode": "token"})


def start(*command: str | Path) -> list[tuple[int, str, str]]:
    """Run `command` in two processes, as torchrun does; exit code, output and errors of each."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_S) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        (process.returncode, out, err) for process, (out, err) in zip(running, said, strict=True)
    ]


def give(folder: Path, corpus: Any, *jobs: dict[str, Any]) -> None:
    corpus.manifest.save(folder / "manifest")
    listed = [
        {**job, "config": job["config"].model_dump(), "kill": job.get("kill", 0)} for job in jobs
    ]
    asked = {"store": str(corpus.store), "jobs": listed}
    (folder / "jobs.json").write_text(json.dumps(asked))


@pytest.fixture(scope="module")
def killed(corpus: Any, config: FusionConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a run of which one process was killed, and how the two ended."""
    folder = tmp_path_factory.mktemp("several")
    job = {"name": "killed", "config": drawing(config), "apart": False, "kill": 1}
    give(folder, corpus, job)
    ended = start(sys.executable, "-W", "error", SCRIPT, folder)
    shutil.copytree(folder / "first" / "killed", folder / "left")
    return folder, ended


@pytest.fixture(scope="module")
def done(corpus: Any, config: FusionConfig, killed: Any) -> Path:
    """A folder with what two processes trained, among it the rest of the run that was killed."""
    folder: Path = killed[0]
    give(
        folder,
        corpus,
        {"name": "killed", "config": drawing(config), "apart": False},
        {"name": "whole", "config": drawing(config), "apart": True},
        *(
            {"name": name, "config": variant(config, **changes), "apart": True}
            for name, changes in VARIANTS.items()
        ),
    )
    for code, _, errors in start(sys.executable, "-W", "error", SCRIPT, folder):
        assert code == 0, errors
    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_train_what_one_trains(
    corpus: Any,
    config: FusionConfig,
    done: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(curves, "draw", lambda log, path: None)
    train(corpus.manifest, corpus.store, tmp_path, variant(config, **VARIANTS[name]))
    one, two = (load_file(f / "checkpoint.safetensors") for f in (tmp_path, done / "first" / name))
    assert set(one) == set(two)
    for key in one:
        if not key.endswith(WITHOUT_GRADIENT):
            # 200 steps of Adam fit late fusion at the end, from scores that differ by rounding.
            # So do token-wise ones, of groups of the queries that a process has, and where a
            # gradient is tiny, Adam's step is as large as elsewhere.
            close = 1e-4 if "late_fusions." in key or name == "wti" else 1e-5
            torch.testing.assert_close(two[key], one[key], rtol=close, atol=close, msg=key)
    logs = [(f / "metrics.jsonl").read_text() for f in (tmp_path, done / "first" / name)]
    for line, other in zip(*(map(json.loads, log.splitlines()) for log in logs), strict=True):
        assert (other.pop("stage"), set(other)) == (line.pop("stage"), set(line))
        for key in line:
            assert other[key] == pytest.approx(line[key], rel=1e-4, abs=1e-6), key


def test_the_first_process_alone_writes(done: Path) -> None:
    assert not (done / "second").exists()
    names = ["checkpoint.safetensors", "config.json", "metrics.jsonl", "validation.json"]
    assert sorted(path.name for path in (done / "first" / "whole").iterdir()) == names


def test_a_killed_process_ends_the_others_with_one_line(killed: Any) -> None:
    (first, _, errors), (second, _, _) = killed[1]
    assert second == -signal.SIGKILL
    assert first == 1
    assert "another process of the run ended" in errors.splitlines()[-1]


def test_a_run_whose_process_was_killed_ends_with_the_same_bytes(done: Path) -> None:
    for name in ("checkpoint.safetensors", "metrics.jsonl"):
        killed, whole = ((done / "first" / run / name).read_bytes() for run in ("killed", "whole"))
        assert killed == whole


def test_one_process_goes_on_with_a_run_of_two(
    corpus: Any, config: FusionConfig, killed: Any, tmp_path: Path
) -> None:
    shutil.copytree(killed[0] / "left", tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    train(corpus.manifest, corpus.store, tmp_path / "run", drawing(config))
    after = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 3


def test_processes_that_read_other_data_are_refused() -> None:
    class Second(ProcessGroup):
        def broadcast_numbers(self, numbers: Sequence[float]) -> list[float]:
            return [number + 1 for number in numbers]

    with pytest.raises(MismatchError, match="process 1 of 2 reads another config, manifest"):
        Second(rank=1, size=2).check_equal(["train000#0"])


@pytest.mark.parametrize("n", [7, 1])
def test_gathered_rows_carry_the_gradients_of_every_process(done: Path, n: int) -> None:
    for rank in (0, 1):
        found = load_file(done / f"gather{n}of{rank}.safetensors")
        assert torch.equal(found["rows"], found["given"])
        assert torch.equal(found["flags"], found["given_flags"])
        naive = found["weights"].sum(dim=0)
        if n == 1 and rank == 1:  # it has no share, and the row that it gave is left out
            naive = torch.zeros_like(naive)
        torch.testing.assert_close(found["gradient"], naive)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_shares_are_all_rows_in_order(size: int, n: int) -> None:
    shares = [ProcessGroup(rank, size).share(n) for rank in range(size)]
    rows = [row for share in shares[:n] for row in range(n)[share]]
    assert rows == list(range(n))
    assert all(len(range(n)[share]) >= 1 for share in shares)
    assert max(len(range(n)[s]) for s in shares) - min(len(range(n)[s]) for s in shares) <= 1


def test_torchrun_starts_the_command_and_it_prints_once(
    corpus: Any, short: FusionConfig, tmp_path: Path
) -> None:
    corpus.manifest.save(tmp_path / "manifest")
    small = ["fuse.device=cpu", "fuse.train.epochs=1", "fuse.model.width=32"]
    small += [f"fuse.levels.{level}.enabled=false" for level in ("motion_visual", "text")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "--no-python", "--"]
    places = [tmp_path / "manifest", corpus.store, tmp_path / "run"]
    given = [
        x for pair in zip(("--manifest", "--store", "--run"), places, strict=True) for x in pair
    ]
    result = subprocess.run(
        [*torchrun, M2HF, "train", *given, *(x for s in small for x in ("--set", s))],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
    )
    assert result.returncode == 0, result.stderr
    said = [line.split()[0] for line in result.stdout.splitlines()]
    assert said == ["trained", "12", "validation", "audio:", "wrote"]
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()


def test_an_error_of_all_is_one_line_and_exit_code_2(corpus: Any, tmp_path: Path) -> None:
    corpus.manifest.save(tmp_path / "manifest")
    given = ["--manifest", tmp_path / "manifest", "--store", tmp_path, "--run", tmp_path / "run"]
    ended = start(M2HF, "train", *given)
    assert [code for code, _, _ in ended] == [2, 2]
    (line,) = [line for _, _, errors in ended for line in errors.splitlines()]
    assert line.startswith("m2hf: ")
    assert not (tmp_path / "run").exists()


def test_alone_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if size:
            monkeypatch.setenv("WORLD_SIZE", size)
        with process_group() as group:
            assert group == SINGLE_PROCESS
            assert not dist.is_initialized()


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"WORLD_SIZE=2 without RANK.*torchrun"), process_group():
        pass


def test_processes_that_cannot_meet_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"RANK": "one", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in {**about, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(PeerLost, match=r"process one of 2 can't join .* 127\.0\.0\.1:1"),
        process_group(),
    ):
        pass


def test_a_process_without_a_gpu_of_its_own_is_told(
    config: FusionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    cuda = config.model_copy(update={"device": "cuda"})
    with (
        pytest.raises(UsageError, match="process 1 of this machine finds 1 GPUs"),
        repeatable(cuda, ProcessGroup(rank=1, size=2, local_rank=1)),
    ):
        pass
