"""`m2hf search`: what it prints, and one clear line for what can't be asked."""

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from searchable import DECLARED, HOSTILE, NAME, Searchable
from typer.testing import CliRunner

from m2hf.cli.app import app
from m2hf.cli.asked import query_encoder
from m2hf.errors import M2hfError
from m2hf.extract.encoder import Encoder
from m2hf.fuse.evaluate import evaluate
from m2hf.fuse.similarity import SimilarityFile
from m2hf.fuse.store import Stream

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Searchable:
    torch.set_num_threads(1)
    return Searchable(tmp_path_factory.mktemp("searchable"))


def run(*arguments: object) -> Any:
    """In this process: its output, or the error that it ends with."""
    done = CliRunner().invoke(app, ["search", *map(str, arguments)])
    if isinstance(done.exception, M2hfError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def hits(corpus: Searchable, query: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(query, *corpus.paths, *options, "--json").stdout)[
        "hits"
    ]
    return found


def test_a_sentence_is_encoded_as_the_captions_were(corpus: Searchable) -> None:
    """No config is given: the shards say how."""
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, corpus.run))
    row = file.scores["late_fusion"][file.query_ids.index("v10#0")]
    found = hits(corpus, "a dog number 10", "--split", "test")
    assert {hit["video"] for hit in found} == {"v10", "v11", "a/b <i>"}
    for hit in found:
        fused = row[file.video_ids.index(hit["video"])]
        assert hit["score"] == pytest.approx(float(fused), abs=2e-5)
    everywhere = hits(corpus, "a dog number 10", "--top", "99")
    assert len(everywhere) == 13
    by_id = {hit["video"]: hit for hit in everywhere}
    assert by_id["v11"]["levels"]["text"] is None
    assert by_id["v03"]["file_start_s"] == by_id["v03"]["frame"]["start_s"] + 2
    texts = {(hit["levels"]["text"] or {}).get("origin") for hit in everywhere}
    assert texts <= {"read", "heard", None}


def test_as_text(corpus: Searchable, m2hf: Command) -> None:
    done = m2hf("search", "собака", *corpus.paths, "--top", "2")
    assert done.returncode == 0, done.stderr
    head, flags, *lines = done.stdout.splitlines()
    assert head == f"{NAME}: 13 videos searched; 1 more have no features"
    assert flags == "captions: untrained"
    assert [line[:5] for line in lines if not line.startswith("    ")] == ["  1  ", "  2  "]
    assert done.stderr.startswith("m2hf: the query is in Cyrillic script")
    assert HOSTILE in done.stdout or "woof woof" in done.stdout


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query is empty"),
        (" .. ", "the query is empty"),
        ("a" * 1001, "1001 characters"),
    ],
)
def test_a_query_that_says_nothing(query: str, message: str, tmp_path: Path) -> None:
    """Refused before anything is looked for."""
    with pytest.raises(M2hfError, match=message) as error:
        run(query, "--manifest", tmp_path, "--store", tmp_path, "--run", tmp_path)
    assert error.value.exit_code == 2


def test_other_encoders_and_missing_parts(corpus: Searchable, tmp_path: Path) -> None:
    manifest, store, trained = corpus.paths[:2], corpus.paths[2:4], corpus.paths[4:]
    with pytest.raises(M2hfError, match="no checkpoint; train one"):
        run("a dog", *manifest, *store, "--run", tmp_path)
    with pytest.raises(M2hfError, match="no store"):
        run("a dog", *manifest, "--store", tmp_path, *trained)
    with pytest.raises(M2hfError, match=r"config\.encoder\.seed was 0 and is 1; use the same"):
        run("a dog", *corpus.paths, "--set", "extract.encoder.seed=1")
    dataclasses.replace(corpus.manifest, rows=corpus.manifest.rows[:10]).save(tmp_path / "m")
    with pytest.raises(M2hfError, match="split test: the manifest has no videos in it"):
        run("a dog", "--manifest", tmp_path / "m", *store, *trained, "--split", "test")


def test_captions_of_no_encoder_here(corpus: Searchable, tmp_path: Path) -> None:
    header = Stream.open(corpus.layout, "caption").header
    imported = dataclasses.replace(header, config={"extractor": "caption", "imported": True})
    with pytest.raises(M2hfError, match="were imported"):
        query_encoder(imported, {}, "cpu")
    state = {
        name: tensor.clone() for name, tensor in corpus.session._model.model.state_dict().items()
    }
    path = tmp_path / "tiny.safetensors"

    def from_file() -> tuple[Any, dict[str, Any]]:
        """The header of captions that this file made, and where it is, as a user says it."""
        save_file(state, path)
        encoder = Encoder(model="m2hf-tiny", pretrained=str(path))
        declared = DECLARED.model_copy(update={"encoder": encoder}).declared({})
        made = dataclasses.replace(header, config=declared, weights=declared["weights"])
        return made, {"encoder": {"pretrained": str(path)}}

    file, given = from_file()
    with pytest.raises(M2hfError, match=r"sha256 [0-9a-f]{64}; say where it is: --set"):
        query_encoder(file, {}, "cpu")
    mine = query_encoder(file, given, "cpu")("a dog").values
    assert (mine == query_encoder(header, {}, "cpu")("a dog").values).all()
    state["token_embedding.weight"][corpus.session._model._tokenizer.encode("zebra!")] = 0
    unlearned, given = from_file()
    with pytest.raises(M2hfError, match=r"weights\.m2hf-tiny/file was '[0-9a-f]{64}' and is"):
        query_encoder(file, given, "cpu")
    encode = query_encoder(unlearned, given, "cpu")
    assert encode("a dog").reason == ""
    assert encode("a dog, a Zebra!").reason == "the encoder was never trained on 'Zebra'"
    assert encode("zebra " + "dog " * 99).reason == (
        "cut to 75 of 100 tokens; the encoder was never trained on 'zebra'"
    )
    with pytest.raises(M2hfError, match="trained on none of the words 'zebra'"):
        encode("zebra, zebra")
