"""Calls on Dask workers: a result for each argument, and one line where there is none."""

from pathlib import Path

import pytest
from dask_processes import dask_processes

from m2hf.errors import MismatchError, UsageError
from m2hf.keys import safe_name
from m2hf.pipelines.cluster.calls import DaskCalls
from m2hf.streams import StreamName


def test_calls(tmp_path: Path) -> None:
    with dask_processes(tmp_path / "dask") as dask:
        dask.start_worker("one")
        found = dict(DaskCalls(dask.address, safe_name)(["a/b", "c", "a/b"]))
        assert found == {0: "a%2Fb", 1: "c", 2: "a%2Fb"}
        with pytest.raises(MismatchError, match="a worker failed: ValueError"):
            list(DaskCalls(dask.address, StreamName)(["x"]))


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2hf.pipelines.cluster.connection._CONNECT_S", 0.2)
    with pytest.raises(UsageError, match="no Dask scheduler answers there"):
        list(DaskCalls("tcp://127.0.0.1:9", safe_name)(["x"]))
