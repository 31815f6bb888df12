"""What a store has of one video, as text, JSON and a page: nothing is left out or let through."""

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
from m2hf.pipelines.timeline.page import page
from m2hf.pipelines.timeline.preview import Preview
from m2hf.pipelines.timeline.text import COLUMNS, bar, lines
from m2hf.pipelines.timeline.timeline import NO_STREAM, Outcome, Timeline
from m2hf.shard import ShardHeader, ShardItem, write_shard

Command = Callable[..., "subprocess.CompletedProcess[str]"]
VIDEO = "a/b #1"  # an id that is no file name, and looks like a caption's
HOSTILE = '<script>alert("x")</script><img src=//evil onerror=y>'
STEERING = "red \x1b[31m\u202eback"
BUCKETS = 2


class Shelf:
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
            texts=(HOSTILE, "second", STEERING),
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
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_every_stream_has_its_outcome(shelf: Shelf) -> None:
    found = shelf.timeline()
    told = {e.extractor: (e.outcome, e.reason, e.flags) for e in found.entries}
    assert list(told) == [
        "clip", "audio", "logmel", "motion", "flow", "thumbnail", "ocr", "asr", "text",
    ]  # fmt: skip
    assert told["clip"] == (Outcome.OK, "the pictures end early", ("untrained",))
    assert told["audio"] == (Outcome.EMPTY, "no audio stream", ())
    failed = "MediaError at extract: too <loud> (attempt 1)"
    assert told["asr"] == (Outcome.FAILED, failed, ())
    assert told["motion"] == told["text"] == (Outcome.MISSING, NO_STREAM, ())
    assert [e.item for e in found.captions] == [f"{VIDEO}#0", f"{VIDEO}#1"]
    assert found.end_s == 3.0
    clip = found.entries[0].summary
    assert clip is not None
    assert (clip.norm_min, clip.norm_max, clip.alike) == (1.0, 1.0, 0.0)


def test_captions_are_found_without_a_manifest_and_missed_with_one(shelf: Shelf) -> None:
    assert [e.outcome for e in shelf.timeline(row=False).captions] == [Outcome.OK] * 2
    row = shelf.row.model_copy(update={"captions": ("one", "two", "three")})
    captions = Timeline.read(shelf.layout, VIDEO, row, ()).captions
    assert [e.outcome for e in captions] == [Outcome.OK, Outcome.OK, Outcome.MISSING]


def test_two_deaths_are_quarantine(shelf: Shelf) -> None:
    for number in range(2):
        event = {"event": "died", "id": VIDEO, "streams": ["motion@11111111"], "stage": "decode"}
        line = json.dumps(event | {"t": float(number)}) + "\n"
        (shelf.layout.ledger / f"{number}.jsonl").write_text(line, encoding="utf-8")
    (entry,) = (e for e in shelf.timeline().entries if e.extractor == "motion")
    assert entry.outcome is Outcome.QUARANTINED
    assert entry.reason == "the process died 2 times at stage decode"


@pytest.mark.parametrize("cut", [True, False])
def test_damage_is_said_and_nothing_else_is_lost(shelf: Shelf, cut: bool) -> None:
    (path,) = shelf.layout.shards(shelf.streams["clip"])
    if cut:
        path.write_bytes(path.read_bytes()[:500])
    else:
        with h5py.File(path, "r+") as file:
            file["values"][0, 0] = 7.0
    entries = shelf.timeline().entries
    assert entries[0].outcome is Outcome.DAMAGED
    assert "damaged shard" in entries[0].reason or "digest" in entries[0].reason
    assert {e.extractor: e.outcome for e in entries}["ocr"] is Outcome.OK


def test_text_fits_a_terminal_and_steers_none(shelf: Shelf) -> None:
    text = list(lines(shelf.timeline()))
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


class Parsed(HTMLParser):
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


def test_the_page_lets_no_markup_through_and_loads_nothing(shelf: Shelf) -> None:
    parsed = Parsed(page(shelf.timeline(), Preview.of(shelf.media, shelf.row, None)))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("src", "data:image/")).startswith("data:image/")
        assert "href" not in attributes
    assert parsed.text.count(HOSTILE) == 3  # the caption, its place on the axis, and the table
    assert "\x1b" not in parsed.text
    assert "\u202e" not in parsed.text


def test_the_page_without_media_says_so(shelf: Shelf) -> None:
    parsed = Parsed(page(shelf.timeline(row=False), None))
    assert "No media was given" in parsed.text
    assert not [tag for tag, _ in parsed.tags if tag == "img"]
    for word in (
        "untrained",
        "the pictures end early",
        "no audio stream",
        "too <loud>",
        "caption 1",
    ):
        assert word in parsed.text


def test_blocks_stand_at_their_times(shelf: Shelf) -> None:
    """Strings at one time are in two rows; percent of 3 s."""
    preview = Preview.of(shelf.media, shelf.row, shelf.timeline().frames)
    blocks = {
        attributes.get("title"): attributes["style"]
        for _, attributes in Parsed(page(shelf.timeline(), replace(preview, duration_s=3.0))).tags
        if attributes.get("title")
    }
    assert blocks["0.00 to 2.00 s: second"] == "left: 0.0%; width: 66.6667%"
    assert blocks["1.00 to 2.00 s"] == "left: 33.3333%; width: 33.3333%"
    assert [title for title in blocks if title.startswith("2.00 to 3.00 s: red")]


def test_a_preview_is_the_clip(shelf: Shelf) -> None:
    frames = shelf.timeline().frames
    preview = Preview.of(shelf.media, shelf.row, frames)
    assert preview == Preview.of(shelf.media, shelf.row, frames)
    assert (preview.stored, preview.error) == (True, "")
    assert [p.start_s for p in preview.thumbnails] == [0.0, 1.0, 2.0]
    first = _image(preview.thumbnails[0].uri)
    assert first.shape == (120, 160, 3)
    assert preview.spectrogram is not None
    level = _image(preview.spectrogram.uri).astype(int).sum(axis=2)
    loudest = int(level[:, level.shape[1] // 2].argmax())
    assert 0.7 < loudest / len(level) < 0.95  # 440 Hz on a mel scale that ends at 8 kHz
    assert shelf.timeline().changed(preview.sha256) == []
    assert shelf.timeline().changed("0" * 64) == [
        shelf.streams[name] for name in ("clip", "audio", "ocr")
    ]


def _image(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_media_without_sound_or_pictures(shelf: Shelf) -> None:
    media.no_audio(shelf.file)
    silent = Preview.of(shelf.media, shelf.row, None)
    assert silent.spectrogram is None
    assert silent.thumbnails
    assert "The media file has no sound" in page(shelf.timeline(), silent)
    assert "not the one that these were made from" in page(shelf.timeline(), silent)
    media.audio_only(shelf.file.with_suffix(".m4a"))
    row = shelf.row.model_copy(update={"path": "v.m4a"})
    blind = Preview.of(shelf.media, row, shelf.timeline().frames)
    assert (blind.thumbnails, blind.error) == ((), "")
    assert "The media file has no pictures" in page(shelf.timeline(), blind)


def test_the_command(shelf: Shelf, m2hf: Command) -> None:
    store, manifest = shelf.folder / "store", shelf.folder / "manifest"
    html = shelf.folder / "out" / "v.html"
    pictures = ["--manifest", manifest, "--media", shelf.media, "--html", html]
    done = m2hf("show", store, VIDEO, *pictures, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [s["outcome"] for s in found["streams"]][:2] == ["ok", "empty"]
    (read,) = (s for s in found["streams"] if s["stream"].partition("@")[0] == "ocr")
    assert read["windows"][1]["text"] == "second"
    assert str(shelf.folder) not in html.read_text(encoding="utf-8")
    shelf.file.write_bytes(b"broken")
    done = m2hf("show", store, VIDEO, *pictures)
    assert done.returncode == 3
    assert "could not be decoded" in html.read_text(encoding="utf-8")


def test_what_is_not_there_is_one_line(shelf: Shelf, m2hf: Command, tmp_path: Path) -> None:
    done = m2hf("show", shelf.folder / "store", "clip21", "--manifest", shelf.folder / "manifest")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no video 'clip21'; near it: clip12" in done.stderr
    with pytest.raises(UsageError, match="no dataset 'yours'; the store has mine"):
        StoreLayout.open(shelf.layout.root, "yours")
    with pytest.raises(UsageError, match="no store"):
        StoreLayout.open(tmp_path / "none")
    StoreLayout(shelf.layout.root, "a/b").record(1)
    with pytest.raises(UsageError, match="2 datasets, a/b, mine; say which"):
        StoreLayout.open(shelf.layout.root)


def test_what_is_taken_for_invented_is_marked(shelf: Shelf) -> None:
    heard = Features(
        np.array([[0.5, 1.0], [0.5, 0.0]]),
        np.array([0.0, 1.0]),
        np.array([1.0, 2.0]),
        texts=("no, no, no", "hello"),
        confidence=np.ones(2),
    )
    shelf.add("asr", {VIDEO: heard}, columns=("speech", "invented"))
    told = "\n".join(lines(shelf.timeline()))
    assert "1.00  (invented) no, no, no  (speech 0.50)" in told
    assert "1.00  hello  (speech 0.50)" in told
    assert "(invented) no, no, no</span>" in page(shelf.timeline(), None)
    entry = next(e for e in shelf.timeline().entries if e.features and e.extractor == "asr")
    assert [w["invented"] for w in entry.as_json()["windows"]] == [1.0, 0.0]
