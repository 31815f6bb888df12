"""A cluster with certificates gives the same bytes, and nobody without them gets in."""

import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest
from checkout import ROOT
from corpus import ExtractionCorpus
from dask_processes import DaskProcesses, dask_processes

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SCRIPT = ROOT / "pipelines" / "deploy" / "tls.sh"


def certificates(folder: Path) -> dict[str, str]:
    """Make certificates by the recipe; returns the variables that it says to set."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine: apt-get install openssl")
    subprocess.run(["bash", str(SCRIPT), str(folder)], check=True, timeout=120)
    lines = (folder / "environment").read_text(encoding="utf-8").splitlines()
    pairs = (shlex.split(line)[1].partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def _key(variable: str) -> str:
    """The key of Dask's configuration that a variable sets."""
    return variable.removeprefix("DASK_").lower().replace("__", ".").replace("_", "-")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return certificates(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def cluster(
    variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaskProcesses]:
    folder = tmp_path_factory.mktemp("cluster") / "cluster"
    with (
        dask.config.set({_key(name): value for name, value in variables.items()}),
        dask_processes(folder, "tls", **variables) as opened,
    ):
        opened.start_worker("a", **variables)
        yield opened


def test_the_bytes_are_those_of_a_serial_run(
    cluster: DaskProcesses,
    variables: dict[str, str],
    corpus: ExtractionCorpus,
    serial: dict[str, bytes],
    m2hf: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cluster.address.startswith("tls://")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = corpus.options("tls", only="flow")
    done = m2hf("extract", *options, "--scheduler", cluster.address)
    assert done.returncode == 0, done.stderr
    assert corpus.shards("tls") == serial


@pytest.mark.parametrize("who", ["nobody", "plain", "another authority", "unencrypted"])
def test_others_are_refused_in_one_line(
    who: str,
    cluster: DaskProcesses,
    corpus: ExtractionCorpus,
    m2hf: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = cluster.address
    if who == "unencrypted":
        monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")
        address = address.replace("tls://", "tcp://")
    elif who == "another authority":
        for name, value in certificates(tmp_path / "other").items():
            monkeypatch.setenv(name, value)
    elif who == "plain":
        address = address.replace("tls://", "tcp://")
    options = corpus.options("refused", only="flow")
    done = m2hf("extract", *options, "--scheduler", address)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"m2hf: --scheduler {address}: ")
    assert not list((corpus.folder / "refused").rglob("*.h5"))


def test_the_key_is_for_its_owner_alone(variables: dict[str, str]) -> None:
    key = Path(variables["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {path.name for path in key.parent.iterdir()} == {
        "authority.pem", "certificate.pem", "environment", "key.pem",
    }  # fmt: skip
    again = subprocess.run(["bash", str(SCRIPT), str(key.parent)], capture_output=True, text=True)
    assert again.returncode == 2
    assert "has certificates already" in again.stderr
