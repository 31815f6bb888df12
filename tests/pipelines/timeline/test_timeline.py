"""A timeline as text, JSON and HTML: every stream is listed and every text is escaped."""

import base64
import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import h5py
import media
import numpy as np
import pytest
from PIL import Image

from m2hf.errors import MediaError, UsageError
from m2hf.features import Features
from m2hf.keys import bucket_of, fingerprint, sha256_file
from m2hf.layout import StoreLayout
from m2hf.ledger import LedgerWriter
from m2hf.manifest import Card, Manifest, Row
from m2hf.pipelines.timeline.entry import EntryOutcome
from m2hf.pipelines.timeline.page import page
from m2hf.pipelines.timeline.preview import Preview
from m2hf.pipelines.timeline.text import COLUMNS, bar, lines
from m2hf.pipelines.timeline.timeline import NO_STREAM, Timeline
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader

Command = Callable[..., "subprocess.CompletedProcess[str]"]
VIDEO = "a/b #1"  # an id that is no file name, and looks like a caption's
HOSTILE = '<script>alert("x")</script><img src=//evil onerror=y>'
CONTROLS = "red \x1b[31m\u202eback"
BUCKETS = 2


class TwoBucketStore:
    """A store of two buckets, written by hand."""

    def __init__(self, folder: Path) -> None:
        self.media = folder / "media"
        self.media.mkdir()
        self.file = media.good(self.media / "v.mp4", seconds=3)
        self.row = Row(id=VIDEO, path="v.mp4", split="test", captions=(HOSTILE, "another"))
        other = Row(id="clip12", path="w.mp4", split="train")
        self.manifest = Manifest(Card(name="mine", protocol="multi_caption"), (self.row, other))
        self.manifest.save(folder / "manifest")
        self.folder, self.layout = folder, StoreLayout(folder / "store", "mine")
        self.layout.record(BUCKETS)
        unit_FD = np.eye(3, 4)
        seconds = np.arange(3.0)
        clip = Features(unit_FD, seconds, seconds + 1, reason="the pictures end early")
        read = Features(
            np.full((3, 2), 0.5),
            np.array([0.0, 0.0, 2.0]),
            np.array([2.0, 2.0, 3.0]),
            texts=(HOSTILE, "second", CONTROLS),
            confidence=np.array([0.5, 0.25, 1.0]),
        )
        self.streams = {
            "clip": self.add("clip", {VIDEO: clip}, flags=("untrained",)),
            "audio": self.add("audio", {VIDEO: Features.empty("no audio stream", 2)}),
            "ocr": self.add("ocr", {VIDEO: read}, columns=("left", "right")),
            "caption": self.add("caption", {f"{VIDEO}#{i}": _caption(i) for i in (0, 1)}),
        }
        writer = LedgerWriter(self.layout.ledger)
        writer.failed(VIDEO, ["asr@00000000"], "extract", MediaError("too <loud>"), 1.0, attempt=1)
        writer.close()

    def add(
        self, name: str, items: dict[str, Features], columns: tuple[str, ...] = (), **more: object
    ) -> str:
        """Write the shard of VIDEO's bucket; the stream's name."""
        view = {"config": {"view": {"fps": 1.0}}}
        header = ShardHeader(
            "mine", name, 1, fingerprint({"n": name}), bucket_of(VIDEO, BUCKETS), BUCKETS,
            self.manifest.digest, view, {}, {}, columns,
        )  # fmt: skip
        header = replace(header, **more)
        path = self.layout.shard(name, header.fingerprint, header.bucket, BUCKETS)
        source = sha256_file(self.file)
        stored = [ShardItem(item, features, source) for item, features in items.items()]
        write_shard(path, header, stored, "float32", stored[0].features.values.shape[1])
        return self.layout.stream(name, header.fingerprint).name

    def timeline(self, row: bool = True) -> Timeline:
        return Timeline.read(self.layout, VIDEO, self.row if row else None, ())


def _caption(i: int) -> Features:
    zeros = np.zeros(2)
    texts = (f"caption {i}", "")
    return Features(np.ones((2, 4)), zeros, zeros, texts=texts, confidence=np.ones(2))


@pytest.fixture
def store(tmp_path: Path) -> TwoBucketStore:
    return TwoBucketStore(tmp_path)


def test_every_stream_has_its_outcome(store: TwoBucketStore) -> None:
    found = store.timeline()
    outcomes = {e.extractor: (e.outcome, e.reason, e.flags) for e in found.entries}
    assert list(outcomes) == [
        "clip", "image", "concepts", "audio", "logmel", "motion", "flow", "thumbnail", "ocr", "asr",
        "text",
    ]  # fmt: skip
    assert outcomes["clip"] == (EntryOutcome.OK, "the pictures end early", ("untrained",))
    assert outcomes["audio"] == (EntryOutcome.EMPTY, "no audio stream", ())
    failed = "MediaError at extract: too <loud> (attempt 1)"
    assert outcomes["asr"] == (EntryOutcome.FAILED, failed, ())
    assert outcomes["motion"] == outcomes["text"] == (EntryOutcome.MISSING, NO_STREAM, ())
    assert [e.item for e in found.captions] == [f"{VIDEO}#0", f"{VIDEO}#1"]
    assert found.end_s == 3.0
    clip = found.entries[0].summary
    assert clip is not None
    assert (clip.norm_min, clip.norm_max, clip.alike) == (1.0, 1.0, 0.0)


def test_captions_are_found_without_a_manifest_and_missed_with_one(store: TwoBucketStore) -> None:
    assert [e.outcome for e in store.timeline(row=False).captions] == [EntryOutcome.OK] * 2
    row = store.row.model_copy(update={"captions": ("one", "two", "three")})
    captions = Timeline.read(store.layout, VIDEO, row, ()).captions
    assert [e.outcome for e in captions] == [EntryOutcome.OK, EntryOutcome.OK, EntryOutcome.MISSING]


def test_two_deaths_are_quarantine(store: TwoBucketStore) -> None:
    event = {"event": "died", "id": VIDEO, "streams": ["motion@11111111"], "stage": "decode"}
    event |= {"message": "signal 9"}
    for number in range(2):
        line = json.dumps(event | {"t": float(number)}) + "\n"
        (store.layout.ledger / f"{number}.jsonl").write_text(line, encoding="utf-8")
    (entry,) = (e for e in store.timeline().entries if e.extractor == "motion")
    assert entry.outcome is EntryOutcome.QUARANTINED
    assert entry.reason == "the process died 2 times at stage decode (signal 9)"


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_shard_is_reported_and_other_streams_are_shown(
    store: TwoBucketStore, cut: bool
) -> None:
    (path,) = store.layout.shards(store.streams["clip"])
    if cut:
        path.write_bytes(path.read_bytes()[:500])
    else:
        with h5py.File(path, "r+") as file:
            file["values"][0, 0] = 7.0
    entries = store.timeline().entries
    assert entries[0].outcome is EntryOutcome.DAMAGED
    assert "damaged shard" in entries[0].reason or "digest" in entries[0].reason
    assert {e.extractor: e.outcome for e in entries}["ocr"] is EntryOutcome.OK


def test_text_fits_a_terminal_and_control_characters_are_escaped(store: TwoBucketStore) -> None:
    text = list(lines(store.timeline()))
    assert max(map(len, text)) <= COLUMNS
    assert all(line.isprintable() for line in text)
    joined = "\n".join(text)
    for part in ("ocr", "untrained", "no audio stream", "too <loud>", r"\x1b[31m", "0.25  second"):
        assert part in joined
    assert "not extracted" in joined


def test_a_bar_is_its_windows() -> None:
    """Each cell against a naive look at every window."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = np.sort(rng.uniform(0, 9, size=4))
        end = start + rng.uniform(0, 1, size=4)
        drawn = bar(Features(np.ones((4, 1)), start, end), 10.0, 40)
        for cell, sign in enumerate(drawn):
            inside = [
                (a < (cell + 1) / 4 and b > cell / 4) for a, b in zip(start, end, strict=True)
            ]
            begins = [cell / 4 <= a < (cell + 1) / 4 for a in start]
            assert sign == ("[" if any(begins) else "=" if any(inside) else ".")


class ParsedPage(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_lets_no_markup_through_and_loads_nothing(store: TwoBucketStore) -> None:
    parsed = ParsedPage(page(store.timeline(), Preview.of(store.media, store.row, None)))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("src", "data:image/")).startswith("data:image/")
        assert "href" not in attributes
    assert parsed.text.count(HOSTILE) == 3  # the caption, its place on the axis, and the table
    assert "\x1b" not in parsed.text
    assert "\u202e" not in parsed.text


def test_the_page_without_media_says_so(store: TwoBucketStore) -> None:
    parsed = ParsedPage(page(store.timeline(row=False), None))
    assert "without the media file" in parsed.text
    assert not [tag for tag, _ in parsed.tags if tag == "img"]
    for word in (
        "untrained",
        "the pictures end early",
        "no audio stream",
        "too <loud>",
        "caption 1",
    ):
        assert word in parsed.text


def test_blocks_stand_at_their_times(store: TwoBucketStore) -> None:
    """Strings at one time are in two rows; percent of 3 s."""
    preview = Preview.of(store.media, store.row, store.timeline().frames)
    blocks = {
        attributes.get("title"): attributes["style"]
        for _, attributes in ParsedPage(
            page(store.timeline(), replace(preview, duration_s=3.0))
        ).tags
        if attributes.get("title")
    }
    assert blocks["0.00 to 2.00 s: second"] == "left: 0.0%; width: 66.6667%"
    assert blocks["1.00 to 2.00 s"] == "left: 33.3333%; width: 33.3333%"
    assert [title for title in blocks if title.startswith("2.00 to 3.00 s: red")]


def test_a_preview_is_the_clip(store: TwoBucketStore) -> None:
    frames = store.timeline().frames
    preview = Preview.of(store.media, store.row, frames)
    assert preview == Preview.of(store.media, store.row, frames)
    assert (preview.stored, preview.error) == (True, "")
    assert [p.start_s for p in preview.thumbnails] == [0.0, 1.0, 2.0]
    first = _image(preview.thumbnails[0].uri)
    assert first.shape == (120, 160, 3)
    assert preview.spectrogram is not None
    level = _image(preview.spectrogram.uri).astype(int).sum(axis=2)
    loudest = int(level[:, level.shape[1] // 2].argmax())
    assert 0.7 < loudest / len(level) < 0.95  # 440 Hz on a mel scale that ends at 8 kHz
    assert store.timeline().streams_of_other_file(preview.sha256) == []
    assert store.timeline().streams_of_other_file("0" * 64) == [
        store.streams[name] for name in ("clip", "audio", "ocr")
    ]


def _image(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_media_without_audio_or_video(store: TwoBucketStore) -> None:
    media.no_audio(store.file)
    silent = Preview.of(store.media, store.row, None)
    assert silent.spectrogram is None
    assert silent.thumbnails
    assert "The media file has no audio stream" in page(store.timeline(), silent)
    assert "These streams were made from another media file" in page(store.timeline(), silent)
    media.audio_only(store.file.with_suffix(".m4a"))
    row = store.row.model_copy(update={"path": "v.m4a"})
    blind = Preview.of(store.media, row, store.timeline().frames)
    assert (blind.thumbnails, blind.error) == ((), "")
    assert "The media file has no video stream" in page(store.timeline(), blind)


def test_the_command(store: TwoBucketStore, m2hf: Command) -> None:
    root, manifest = store.folder / "store", store.folder / "manifest"
    html = store.folder / "out" / "v.html"
    html_options = ["--manifest", manifest, "--media", store.media, "--html", html]
    done = m2hf("show", root, VIDEO, *html_options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    outcomes = {s["stream"].partition("@")[0]: s["outcome"] for s in found["streams"]}
    assert (outcomes["clip"], outcomes["audio"]) == ("ok", "empty")
    (read,) = (s for s in found["streams"] if s["stream"].partition("@")[0] == "ocr")
    assert read["windows"][1]["text"] == "second"
    assert str(store.folder) not in html.read_text(encoding="utf-8")
    store.file.write_bytes(b"broken")
    done = m2hf("show", root, VIDEO, *html_options)
    assert done.returncode == 3
    assert "could not be decoded" in html.read_text(encoding="utf-8")


def test_what_is_not_there_is_one_line(
    store: TwoBucketStore, m2hf: Command, tmp_path: Path
) -> None:
    done = m2hf("show", store.folder / "store", "clip21", "--manifest", store.folder / "manifest")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no video 'clip21'; similar ids: clip12" in done.stderr
    with pytest.raises(UsageError, match="no dataset 'yours'; the store has mine"):
        StoreLayout.open(store.layout.root, "yours")
    with pytest.raises(UsageError, match="no store"):
        StoreLayout.open(tmp_path / "none")
    StoreLayout(store.layout.root, "a/b").record(1)
    with pytest.raises(UsageError, match="2 datasets, a/b, mine; choose one"):
        StoreLayout.open(store.layout.root)


def test_hallucinated_strings_are_marked(store: TwoBucketStore) -> None:
    heard = Features(
        np.array([[0.5, 1.0], [0.5, 0.0]]),
        np.array([0.0, 1.0]),
        np.array([1.0, 2.0]),
        texts=("no, no, no", "hello"),
        confidence=np.ones(2),
    )
    store.add("asr", {VIDEO: heard}, columns=("speech", "hallucinated"))
    text = "\n".join(lines(store.timeline()))
    assert "1.00  (hallucinated) no, no, no  (speech 0.50)" in text
    assert "1.00  hello  (speech 0.50)" in text
    assert "(hallucinated) no, no, no</span>" in page(store.timeline(), None)
    entry = next(e for e in store.timeline().entries if e.features and e.extractor == "asr")
    assert [w["hallucinated"] for w in entry.as_json()["windows"]] == [1.0, 0.0]
