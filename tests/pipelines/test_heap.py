"""Freed memory is reused instead of being requested from the kernel again."""

import platform
import subprocess
import sys

import pytest

_ROUNDS = """
import resource, sys
import numpy as np
from m2hf.pipelines.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(48 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.ones(64 << 20, np.uint8)
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_a_freed_block_is_reused_without_new_pages() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", _ROUNDS, how]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert faults("keep") * 20 < faults("")
