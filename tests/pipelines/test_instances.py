"""Instances: extractors that a recipe declares again under names of its own."""

from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
from sentence_encoders import WIDTH, save_sentence_encoder

from m2hf.cli.query_encoder import query_encoder
from m2hf.cli.recipe import Recipe
from m2hf.config import parse
from m2hf.errors import ConfigError, MismatchError, UsageError
from m2hf.exchange.exporting import export_streams
from m2hf.extract import registry
from m2hf.layout import StoreLayout
from m2hf.ledger import LedgerWriter
from m2hf.manifest import Card, Manifest, Row
from m2hf.pipelines import extraction
from m2hf.pipelines.config import ExtractConfig, select
from m2hf.pipelines.executors import SerialExecutor
from m2hf.pipelines.job import Job
from m2hf.pipelines.required_weights import required_weights
from m2hf.pipelines.timeline.entry import EntryOutcome
from m2hf.pipelines.timeline.timeline import Timeline
from m2hf.settings import setting_groups
from m2hf.shard import Shard

CAPTIONS = ("a cat", "a dog")
NAMES = ("caption", "caption_sentence", "logmel", "logmel_fine")


class Extracted:
    """A store with two extractors and an instance of each."""

    def __init__(self, folder: Path) -> None:
        self.encoder = save_sentence_encoder(folder / "encoder")
        self.section: dict[str, Any] = {
            "device": "cpu",
            "encoder": {"model": "m2hf-tiny", "pretrained": ""},
            "extractors": ["logmel", "caption", "logmel_fine", "caption_sentence"],
            "caption_sentence": {
                "extractor": "caption",
                "encoder": {"kind": "sentence", "model": str(self.encoder)},
            },
            "logmel_fine": {"extractor": "logmel", "mels": 40},
        }
        self.config = parse(ExtractConfig, self.section, "extract")
        (folder / "videos").mkdir()
        media.good(folder / "videos" / "a.mp4", seconds=1)
        self.row = Row(id="a", path="a.mp4", split="train", captions=CAPTIONS)
        self.manifest = Manifest(Card(name="one", protocol="multi_caption"), (self.row,))
        self.manifest.save(folder / "manifest")
        self.folder, self.store = folder, folder / "store"
        self.layout = StoreLayout(self.store, "one")
        job = self.job(select("", self.config.extractors, self.config.names))
        for _ in extraction.extract(job, SerialExecutor(), extraction.plan(job)):
            pass

    def job(self, names: tuple[str, ...] = NAMES) -> Job:
        paths = (self.folder / "manifest", self.folder / "videos", self.store)
        return Job.prepare(*paths, self.section, names)

    def shard(self, name: str) -> Shard:
        (path,) = self.layout.shards(self.layout.find_stream(name))
        return Shard.open(path)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    return Extracted(tmp_path_factory.mktemp("instances"))


def test_each_instance_is_a_stream_of_its_name_and_settings(extracted: Extracted) -> None:
    assert [stream.extractor for stream in extracted.layout.streams()] == sorted(NAMES)
    headers = {name: extracted.shard(name).header for name in NAMES}
    assert [header.extractor for header in headers.values()] == [*NAMES]
    assert [header.kind for header in headers.values()] == [
        "caption",
        "caption",
        "logmel",
        "logmel",
    ]
    assert [name for name in NAMES if headers[name].of_captions] == ["caption", "caption_sentence"]
    assert (
        extracted.shard("logmel_fine").values.shape[1] < extracted.shard("logmel").values.shape[1]
    )
    assert extracted.shard("caption_sentence").values.shape[1] == WIDTH
    assert extracted.shard("caption_sentence").ids == ("a#0", "a#1")


def test_status_counts_them_and_a_retry_names_their_failures(extracted: Extracted) -> None:
    status = extraction.status(extracted.job())
    assert {name: counts["ok"] for name, counts in status.counts.items()} == {
        "caption": 2, "caption_sentence": 2, "logmel": 1, "logmel_fine": 1,
    }  # fmt: skip
    assert not status.failures


def test_an_instance_has_the_fingerprint_of_its_extractor_with_the_same_settings() -> None:
    section = {"encoder": {"model": "m2hf-tiny", "pretrained": ""}, "text_b": {"extractor": "text"}}
    config, upstream = parse(ExtractConfig, section, "extract"), {"ocr": "0", "asr": "1"}
    same, own = config.extractor("text"), config.extractor("text_b")
    assert own.fingerprint(upstream) == same.fingerprint(upstream)
    assert own.reads == ("ocr", "asr")
    assert own.model_dump() == same.model_dump()


def test_the_timeline_shows_captions_apart_and_instances_beside(extracted: Extracted) -> None:
    found = Timeline.read(extracted.layout, "a", extracted.row, ())
    captions = {(entry.extractor, entry.item) for entry in found.captions}
    assert captions == {(n, f"a#{i}") for n in ("caption", "caption_sentence") for i in (0, 1)}
    outcomes = {entry.extractor: entry.outcome for entry in found.entries}
    assert outcomes["logmel_fine"] is EntryOutcome.OK
    assert "caption_sentence" not in outcomes
    assert not found.streams_of_other_file(extracted.shard("logmel").media_sha256[0])


def test_a_failed_caption_of_an_instance_without_a_shard_is_shown(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "one")
    layout.record(1)
    writer = LedgerWriter(layout.ledger)
    writer.failed("a#0", ["mine@00000000"], "extract", UsageError("no"), 1.0, attempt=1)
    writer.close()
    found = Timeline.read(layout, "a", None, ())
    assert [(e.extractor, e.item) for e in found.captions] == [("mine", "a#0")]
    assert "mine" not in {entry.extractor for entry in found.entries}


def test_captions_of_an_instance_are_not_exported(extracted: Extracted, tmp_path: Path) -> None:
    given = extracted.manifest, extracted.store
    with pytest.raises(UsageError, match="caption_sentence: a stream of captions"):
        export_streams(*given, ["caption_sentence"], "npz", tmp_path / "out")
    done = export_streams(*given, ["logmel_fine"], "npz", tmp_path / "out")
    assert done["logmel_fine"].ok == 1


def test_a_query_is_encoded_as_the_captions_of_the_instance(extracted: Extracted) -> None:
    shard = extracted.shard("caption_sentence")
    encode = query_encoder(shard.header, extracted.section, "cpu")
    np.testing.assert_array_equal(encode("a cat").values, shard.item(0).features.values)
    shared = {"encoder": extracted.section["encoder"]}
    path = r"give its path: --set extract\.caption_sentence\.encoder\.model=PATH"
    with pytest.raises(UsageError, match=path):
        query_encoder(shard.header, shared, "cpu")
    encoder = {"model": str(extracted.encoder), "query_prompt": "query: "}
    with pytest.raises(
        MismatchError, match=r"config\.encoder\.query_prompt was None and is 'query"
    ):
        query_encoder(shard.header, {"caption_sentence": {"encoder": encoder}}, "cpu")


def test_weights_are_needed_for_an_instance(extracted: Extracted) -> None:
    needed = required_weights(extracted.config, ("caption", "caption_sentence"))
    assert {one.extractors for one in needed} == {("caption_sentence",)}
    assert "model.safetensors" in {one.weight.name for one in needed}


def test_names_are_in_the_order_of_their_extractors(extracted: Extracted) -> None:
    names = extracted.config.names
    assert set(names) == {*registry.names(), "caption_sentence", "logmel_fine"}
    assert names.index("caption_sentence") == names.index("caption") + 1
    assert select("logmel_fine,caption", (), names) == ("caption", "logmel_fine")
    with pytest.raises(ConfigError, match=r"--only logmel_fin: .* logmel, logmel_fine, "):
        select("logmel_fin", (), names)


def test_settings_of_an_instance_are_listed(extracted: Extracted) -> None:
    recipe = parse(Recipe, {"extract": extracted.section})
    listed = {one.key: one for group in setting_groups(Recipe(), recipe) for one in group.settings}
    assert listed["extract.logmel_fine.mels"].value == 40
    assert listed["extract.logmel_fine.extractor"].value == "logmel"
    assert listed["extract.caption_sentence.encoder.model"].value == str(extracted.encoder)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"b": {"extractor": "captoin"}}, "extractor = 'captoin'; expected one of clip, caption, "),
        ({"b": {"extractor": 3}}, "extractor = 3; expected one of clip, "),
        ({"caption": {"extractor": "caption"}}, "'caption' is a key of extract already; give the"),
        ({"media": {"extractor": "ocr"}}, "'media' is a key of extract already"),
        ({"B c": {"extractor": "ocr"}}, "'B c' is no name of an instance: it has lower-case lett"),
        ({"b": {"extractor": "ocr", "canvass": 9}}, "unknown key 'b.canvass'; `m2hf config` lists"),
        ({"b": {"extractor": "ocr", "canvas": "x"}}, "b.canvas = 'x': Input should be a valid int"),
        ({"capton": {"dtype": "float16"}}, "unknown key 'capton'; did you mean 'caption'"),
        ({"b": {"extractor": "clip"}, "extractors": ["c"]}, "extractors name 'c'; .* clip, b, cap"),
        (
            {"b": {"extractor": "clip", "encoder": {"kind": "sentence"}}},
            r"b\.encoder\.kind = 'sente",
        ),
    ],
)
def test_a_wrong_instance_is_one_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(ExtractConfig, section, "extract")
    assert "\n" not in str(raised.value)
