"""`python -m benchmarks.extraction.heap`: processor time saved by keeping freed memory, by network.

Processor seconds of one forward pass on a CPU, one thread, in a process of its own: user time, and
kernel time, which goes into zeroing fresh pages. Weights are random.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

NETWORKS = ("R(2+1)D-18, 2 x 16 x 112 x 112", "AST, 1 x 1024 x 128", "ViT-B-32, 16 x 224 x 224")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table; with --measure, JSON of one network."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction.heap", description=__doc__
    )
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--measure", choices=NETWORKS)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args(arguments)
    if given.measure:
        print(json.dumps(_measure(given.measure, given.keep, given.passes)))
        return 0
    print("| network | default: user s | kernel s | kept: user s | kernel s | ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in NETWORKS:
        before, after = _in_subprocess(name, given), _in_subprocess(name, given, "--keep")
        numbers = [f"{seconds:.2f}" for seconds in (*before, *after)]
        print(f"| {name} | {' | '.join(numbers)} | {sum(after) / sum(before):.2f} |", flush=True)
    return 0


def _in_subprocess(name: str, given: argparse.Namespace, *more: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.extraction.heap", "--measure", name, *more]
    command += ["--passes", str(given.passes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def _measure(name: str, keep: bool, passes: int) -> list[float]:
    """[user, kernel] seconds per pass, after a warm-up pass."""
    import torch

    from m2hf.pipelines.heap import keep_freed_memory

    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    network = _network(name)
    with torch.inference_mode():
        network()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(passes):
            network()
        after = resource.getrusage(resource.RUSAGE_SELF)
    user, kernel = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return [user / passes, kernel / passes]


def _network(name: str) -> Callable[[], Any]:
    import torch

    from m2hf.extract.networks.compat import import_torchvision

    import_torchvision()
    shape: tuple[int, ...]
    if name == NETWORKS[0]:
        from torchvision.models.video import r2plus1d_18

        model, shape = r2plus1d_18(), (2, 3, 16, 112, 112)
    elif name == NETWORKS[1]:
        from transformers import ASTConfig, ASTModel

        model, shape = ASTModel(ASTConfig()), (1, 1024, 128)
    else:
        import open_clip

        model, shape = open_clip.create_model("ViT-B-32").visual, (16, 3, 224, 224)
    model.eval()
    rows = torch.randn(*shape)
    return lambda: model(rows)


if __name__ == "__main__":
    sys.exit(main())
