"""The clips of the cluster tests, and the shards that a serial run makes of them."""

import subprocess
from collections.abc import Callable

import media
import pytest
from corpus import ExtractionCorpus

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="package")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ExtractionCorpus:
    """Eight clips in four buckets; motion as flow needs no network."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "media").mkdir()
    files = {
        f"id/{i}": media.good(folder / "media" / f"clip{i}.mp4", seconds=1, source=source)
        for i, source in enumerate(("testsrc2", "testsrc", "smptebars", "rgbtestsrc") * 2)
    }
    return ExtractionCorpus(folder, files, ())


@pytest.fixture(scope="package")
def serial(corpus: ExtractionCorpus, m2hf: Command) -> dict[str, bytes]:
    """The bytes of a run in one process, without incident."""
    done = m2hf("extract", *corpus.options("serial", only="flow"))
    assert done.returncode == 0, done.stderr
    return corpus.shards("serial")
