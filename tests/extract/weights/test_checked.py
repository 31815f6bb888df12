"""Loading a checkpoint: every failure is one line that names the file, and no tensor is missed."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.weights.checked import load_tensors, loading, require_shapes, require_tensors
from m2hf.extract.weights.weight import WeightFile


@pytest.fixture
def file(tmp_path: Path) -> WeightFile:
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    return WeightFile("w", (path,), hashlib.sha256(b"weights").hexdigest())


def network() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


def message_of(file: WeightFile, error: Exception) -> str:
    with pytest.raises(ResourceError) as raised, loading(file, "a checkpoint of x"):
        raise error
    assert raised.value.__cause__ is error
    assert raised.value.exit_code == 1
    return str(raised.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("it lacks a.bias"), "it lacks a.bias"),
        (OSError("\n  first line  \nsecond line\n"), "first line"),
        (RuntimeError("Error(s) in loading:\n\tsize mismatch\n\tmore"), "Error(s) in loading: siz"),
        (KeyError("model_state_dict"), "there is no 'model_state_dict' in it"),
        (EOFError(), "EOFError"),
        (RuntimeError("x" * 5000), "xxx"),
    ],
)
def test_any_error_is_one_short_line_with_the_file(
    file: WeightFile, error: Exception, reason: str
) -> None:
    message = message_of(file, error)
    start = f"weights {file.paths[0]}: damaged, or not a checkpoint of x: "
    assert message.startswith(start + reason)
    assert "\n" not in message
    assert len(message) <= len(start) + 303


def test_errors_of_m2hf_and_interrupts_pass_through(file: WeightFile) -> None:
    for error in (ConfigError("unknown model"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, loading(file, "a checkpoint of x"):
            raise error
        assert raised.value is error


def test_a_file_that_changes_while_it_is_loaded_is_an_error(file: WeightFile) -> None:
    with loading(file, "a checkpoint of x") as path:
        assert path.read_bytes() == b"weights"
        os.utime(path)  # the same content
    with pytest.raises(ResourceError, match="was changed while it was in use"):  # noqa: SIM117
        with loading(file, "a checkpoint of x") as path:
            path.write_bytes(b"another")


def test_tensors_are_copied() -> None:
    source, target = network(), network()
    load_tensors(target, source.state_dict())
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.bias"), "it lacks 0.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "unexpected tensor extra"),
        (lambda state: state.update({"0.bias": torch.ones(4)}), r"0.bias is \[4\], expected \[3\]"),
        (dict.clear, "it lacks 0.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Any, message: str) -> None:
    state = dict(network().state_dict())
    change(state)
    with pytest.raises(ValueError, match=message):
        load_tensors(network(), state)


def test_what_is_no_state_dict_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a state dict, found a list"):
        load_tensors(network(), ["no", "state", "dict"])
    with pytest.raises(RuntimeError, match=r"0\.bias"):  # no tensor: torch's own message
        load_tensors(network(), {**network().state_dict(), "0.bias": "text"})


def test_the_first_name_is_reported() -> None:
    require_tensors([], [])
    require_shapes({"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(3)})
    with pytest.raises(ValueError, match="it lacks a"):
        require_tensors(["b", "a"], ["c"])
    with pytest.raises(ValueError, match="unexpected tensor c"):
        require_tensors([], {"d", "c"})
