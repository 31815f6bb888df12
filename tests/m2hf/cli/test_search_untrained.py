"""`m2hf search` and `m2hf app` without a run: cosines and words, and where the page says so."""

import asyncio
import json
import shutil
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import torch
from searchable import DECLARED, OF_FRAMES, WIDTH, Searchable
from typer.testing import CliRunner

from m2hf.cli.app import app
from m2hf.errors import M2hfError, MismatchError, UsageError
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.search.searcher import Searcher
from m2hf.fuse.search.untrained import untrained_index
from m2hf.fuse.search.web.media_files import MediaFiles
from m2hf.fuse.search.web.site import Site
from m2hf.project import Project

QUERY = "a dog woof"


@pytest.fixture
def corpus(tmp_path: Path) -> Searchable:
    """Videos with a sign and a sound, and no captions in the store."""
    torch.set_num_threads(1)
    corpus = Searchable(tmp_path)
    remove(corpus, "caption")
    return corpus


def remove(corpus: Searchable, name: str) -> None:
    shutil.rmtree(corpus.layout.folder / corpus.layout.find_stream(name))


def search(corpus: Searchable, *options: object, query: str = QUERY) -> str:
    tiny = ("--set", "extract.encoder.model=m2hf-tiny", "--set", "extract.encoder.pretrained=''")
    words = ["search", query, *corpus.paths[:4], *tiny, *map(str, options)]
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, M2hfError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_scores_are_weighted_cosines_and_words(corpus: Searchable) -> None:
    weights = ("--set", "fuse.levels.text.weight=2", "--set", "fuse.levels.words.weight=0.5")
    found = json.loads(search(corpus, "--top", "99", "--json", *weights))
    assert found["flags"]["run"] == [
        "untrained: zero-shot",
        "words: BM25 statistics of all 12 videos with strings",
    ]
    query = unit_rows(DECLARED.open("cpu").extract(QUERY).values[:1])[0]
    assert len(found["hits"]) == 13
    for hit in found["hits"]:
        total = 0.0
        for name, stream, weight in (("visual", "clip", 1), ("text", "text", 2)):
            level, opened = hit["levels"][name], Stream.open(corpus.layout, stream)
            assert (level is None) == (not opened.holds([hit["video"]])[0])
            if level is not None:
                mean = unit_rows(opened.features(hit["video"]).values.mean(axis=0)[None])[0]
                assert level["score"] == pytest.approx(float(mean @ query), abs=1e-5)
                total += weight * level["score"]
        words = hit["levels"]["words"]
        total += 0.5 * words["score"] if words else 0
        assert hit["score"] == pytest.approx(total, abs=1e-4)
        if words:
            assert (words["text"], words["origin"]) == ("woof woof", "heard")


def test_what_the_eye_sees_first(corpus: Searchable) -> None:
    lines = search(corpus, query="woof").splitlines()
    assert lines[0].startswith("untrained: zero-shot; words: BM25 statistics of all 12 videos")
    assert "     heard at 0.5 to 2.5 s: woof woof" in lines
    index = untrained_index(corpus.manifest, corpus.store, FusionConfig())
    site = Site(Searcher(index, corpus.session.extract), MediaFiles.open(corpus.media))
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    asyncio.run(site.app(())(scope, receive, send))
    header = b"".join(m.get("body", b"") for m in sent).partition(b"</header>")[0]
    assert b"untrained: zero-shot" in header


def test_levels_that_the_store_lacks_are_left_out(corpus: Searchable) -> None:
    remove(corpus, "text")
    found = json.loads(search(corpus, "--json"))
    assert set(found["hits"][0]["levels"]) == {"visual"}
    assert found["flags"]["run"] == [
        "untrained: zero-shot",
        "without level text: text is not in the store",
        "without level words: text is not in the store",
    ]
    with pytest.raises(UsageError, match="no level can be searched"):
        search(corpus, "--set", "fuse.levels.visual.enabled=false")
    remove(corpus, "clip")
    with pytest.raises(UsageError, match="no features of 'clip'"):
        search(corpus)


def test_strings_that_are_not_there_are_no_words(corpus: Searchable) -> None:
    found = json.loads(search(corpus, "--json", "--set", "fuse.streams.text=clip"))
    assert "without level words: clip has no strings" in found["flags"]["run"]


@pytest.mark.parametrize(
    ("declared", "error", "message"),
    [
        (
            {"extractor": "clip", "imported": {"sha256": "0"}},
            UsageError,
            "frames of searchable were imported",
        ),
        (
            OF_FRAMES.model_copy(
                update={"encoder": DECLARED.encoder.model_copy(update={"seed": 7})}
            ).declared({}),
            MismatchError,
            r"differs from that of the frames: encoder.seed was 7 and is 0; give the recipe",
        ),
    ],
)
def test_frames_of_another_space_are_refused(
    corpus: Searchable, declared: dict[str, Any], error: type[Exception], message: str
) -> None:
    stored = Stream.open(corpus.layout, "clip")
    frames = {video: stored.features(video) for video in ("v00", "v01")}
    remove(corpus, "clip")
    corpus.write("clip", frames, WIDTH, declared)
    with pytest.raises(error, match=message):
        search(corpus)


def test_a_project_without_a_run_is_searched_and_a_named_run_must_be_there(
    corpus: Searchable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus.folder)
    tiny = '[extract.encoder]\nmodel = "m2hf-tiny"\npretrained = ""\n'
    Path("tiny.toml").write_text(tiny, encoding="utf-8")
    Project(manifest="manifest", store="store", run="new", config="tiny.toml").save(Path())
    done = CliRunner().invoke(app, ["search", "woof"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("untrained: zero-shot")
    with pytest.raises(UsageError, match="no checkpoint"):
        search(corpus, "--run", "new")
