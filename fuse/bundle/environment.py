"""What the bits of scores depend on, apart from the inputs: libraries, and the processor."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version

import torch

_LIBRARIES = ("m2hf", "numpy", "torch", "h5py", "safetensors")


def environment() -> dict[str, str]:
    """Versions by library, and the processor's instructions that torch uses."""
    return {
        **{name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instructions": str(torch.backends.cpu.get_cpu_capability()),
    }


def changes(there: Mapping[str, str], here: Mapping[str, str]) -> Iterator[str]:
    """Each entry that differs, as text."""
    for name in dict.fromkeys((*there, *here)):
        if there.get(name) != here.get(name):
            yield f"{name} {there.get(name, 'none')} there, {here.get(name, 'none')} here"
