"""Install m2hf, all its extras and its tools into the environment whose python runs this.

pip alone would do, but for three things: openai-whisper asks for triton on Linux (a GB that a CPU
doesn't use, and that a CUDA torch brings itself), rapidocr-onnxruntime asks for opencv-python
(which overwrites the files of opencv-python-headless), and torch has to be there first so that
nothing pulls another one.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Installed without dependencies -> those that are wanted, but for torch.
WITHOUT_DEPENDENCIES = {
    "openai-whisper": ["more-itertools", "numba", "tiktoken", "tqdm"],
    "rapidocr-onnxruntime": ["onnxruntime", "pillow", "pyclipper", "pyyaml", "shapely", "tqdm"],
}
# RapidOCR's wheel refuses Python 3.13 and later.
EXTRAS = ("all", "dev") if sys.version_info >= (3, 13) else ("all", "rapidocr", "dev")


def pip(*arguments: str) -> None:
    """Run pip with the project's constraints, also for what it builds."""
    constraints = str(ROOT / "constraints.txt")
    command = [sys.executable, "-m", "pip", "install", "-q", "--progress-bar=off"]
    subprocess.run([*command, "-c", constraints, *arguments], check=True)


def requirements(project: dict[str, Any], extras: Sequence[str]) -> Iterator[str]:
    """What `extras` of the project require; an extra may name others, as m2hf[a,b]."""
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)
            if own:
                yield from requirements(project, own.group(1).split(","))
            else:
                yield requirement


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - whatever `python3` a machine has
        sys.exit(f"m2hf needs Python 3.11 or later, this is {sys.version.split()[0]}: set PYTHON")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {*project["dependencies"], *requirements(project, EXTRAS)}
    apart = sorted(named.intersection(WITHOUT_DEPENDENCIES))
    wanted = sorted(named.union(*map(WITHOUT_DEPENDENCIES.get, apart)).difference(apart))
    print("installing torch and torchvision", flush=True)
    pip("pip", "setuptools", "torch", "torchvision")
    print(f"installing {len(wanted)} packages and what they need", flush=True)
    pip(*wanted)
    pip("--no-deps", *apart)
    pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))


if __name__ == "__main__":
    main()
