"""Workers on two hosts, which are network namespaces of one machine, give the same bytes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import HELPERS
from corpus import ExtractionCorpus

M2HF = str(Path(sys.executable).parent / "m2hf")


def test_two_hosts_give_the_same_bytes(
    corpus: ExtractionCorpus, serial: dict[str, bytes], tmp_path: Path
) -> None:
    outside = ["unshare", "--user", "--map-root-user", "--net", "--uts"]
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed, so no network namespace can be made")
    inside = "ip link add veth-a type veth peer name veth-b"
    allowed = subprocess.run([*outside, *inside.split()], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"this kernel makes no network namespace for us: {allowed.stderr.strip()}")
    command = [*outside, sys.executable, str(HELPERS / "two_hosts.py"), str(tmp_path)]
    command += [M2HF, "extract", *corpus.options("hosts", only="flow")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Dask workers: 2 on 2 hosts" in done.stderr
    assert corpus.shards("hosts") == serial
    assert corpus.ledger("hosts").hosts() == {"host-a", "host-b"}
