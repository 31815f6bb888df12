"""A small trained run with media, for tests of search and its page: captions are encoded by the
tiny CLIP, all other features are synthetic, so that no extraction is needed.

Frames are random, so the ranking is meaningless; the tests look at how results are shown.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import media
import numpy as np
from PIL import Image

from m2hf.extract.caption import CaptionEncoder, CaptionEncoderSession
from m2hf.extract.clip import FrameEncoder
from m2hf.extract.networks.encoder import Encoder
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.training.run import train
from m2hf.keys import bucket_of, fingerprint
from m2hf.layout import StoreLayout
from m2hf.manifest import Card, Manifest, Row, Split, captions_of
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader
from m2hf.thumbnails import as_string

NAME, BUCKETS, WIDTH, SECONDS = "searchable", 2, 128, 6
HOSTILE = '<script>alert("x")</script> OPEN'
LEVELS = {"audio_visual": {"enabled": False}, "motion_visual": {"enabled": False}}
CONFIG = {
    "device": "cpu",
    "levels": {**LEVELS, "visual": {"stream": "frames"}, "text": {"stream": "text"}},
    "model": {"width": 16, "heads": 2},
    "train": {"epochs": 1, "batch_size": 4},
}
DECLARED = CaptionEncoder(encoder=Encoder(model="m2hf-tiny", pretrained=""))
OF_FRAMES = FrameEncoder(encoder=DECLARED.encoder)


class Searchable:
    """paths: command-line options for its folders; session: of the text encoder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.media = folder, folder / "media"
        self.media.mkdir()
        for number, source in enumerate(("testsrc2", "smptebars", "testsrc")):
            media.good(self.media / f"{number}.mp4", seconds=SECONDS, source=source)
        rows = [*map(self._row, range(12)), Row(id="a/b <i>", path="gone.mp4", split="test")]
        rows.append(Row(id="unseen", path="0.mp4", split="test"))
        self.manifest = Manifest(Card(name=NAME, protocol="multi_caption"), tuple(rows))
        self.manifest.save(folder / "manifest")
        self.store, self.run = folder / "store", folder / "run"
        self.layout = StoreLayout(self.store, NAME)
        self.layout.record(BUCKETS)
        self.session = DECLARED.open("cpu")
        self._write_streams(self.session)
        train(self.manifest, self.store, self.run, FusionConfig.model_validate(CONFIG))

    @property
    def paths(self) -> list[str]:
        named = {"manifest": self.folder / "manifest", "store": self.store, "run": self.run}
        return [part for name, path in named.items() for part in (f"--{name}", str(path))]

    def write(
        self, name: str, items: Mapping[str, Features], width: int, declared: object = None
    ) -> str:
        """Write the shards of one stream; returns the full fingerprint."""
        config = declared if isinstance(declared, dict) else {"extractor": name}
        header = ShardHeader(
            NAME, name, 1, digest := fingerprint(config), 0, BUCKETS, self.manifest.digest, config,
            config.get("weights", {}), {}, flags=["untrained"] if name == "caption" else [],
        )  # fmt: skip
        for bucket in range(BUCKETS):
            inside = [
                ShardItem(item, features, "0" * 64)
                for item, features in items.items()
                if bucket_of(item, BUCKETS) == bucket
            ]
            path = self.layout.shard(name, digest, bucket, BUCKETS)
            write_shard(path, header, inside, "float32", width)
        return digest

    def _row(self, number: int) -> Row:
        split: Split = "train" if number < 8 else "val" if number < 10 else "test"
        part = {"start": 2.0, "end": 5.0} if number % 4 == 3 else {}
        return Row(
            id=f"v{number:02d}",
            path=f"{number % 3}.mp4",
            split=split,
            captions=(f"a dog number {number}", "it barks"),
            **part,
        )

    def _write_streams(self, session: CaptionEncoderSession) -> None:
        rng, rows = np.random.default_rng(3), self.manifest.rows[:-1]
        seconds = np.arange(3.0)
        dog = session.extract("a dog").values[0]

        def frames() -> Features:
            values = rng.normal(size=(3, WIDTH)) / np.sqrt(WIDTH)
            values[1] += dog  # so that it is found at second 1
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            return Features(values.astype(np.float32), seconds, seconds + 1)

        self.write("clip", {row.id: frames() for row in rows}, WIDTH, OF_FRAMES.declared({}))
        captions = {c.id: session.extract(c.text) for c in captions_of(rows)}
        self.write("caption", captions, WIDTH, DECLARED.declared({}))
        lines = ((HOSTILE, 1.0, 2.0), ("woof woof", 0.5, 2.5))
        read, heard = (
            {row.id: _strings(np.ones((1, 4), np.float32), line) for row in rows} for line in lines
        )
        reads = {"ocr": self.write("ocr", read, 4), "asr": self.write("asr", heard, 4)}
        # Video v11 has no text features.
        values = np.stack([dog, session.extract(lines[1][0]).values[0]])
        texts = {row.id: _strings(values, *lines) for row in rows if row.id != "v11"}
        self.write("text", texts, WIDTH, {"extractor": "text", "reads": reads})
        images = [_thumbnail(shade) for shade in (60, 120, 180)]
        lines = [(image, float(n), n + 1.0) for n, image in enumerate(images)]
        posters = {row.id: _strings(np.ones((3, 3), np.float32), *lines) for row in rows[4:]}
        self.write("thumbnail", posters, 3)


def _thumbnail(shade: int) -> str:
    """A thumbnail of one colour, as a string of a shard."""
    stream = io.BytesIO()
    Image.new("RGB", (160, 90), (shade, shade, 255)).save(stream, "JPEG")
    return as_string(stream.getvalue())


def _strings(values: np.ndarray, *lines: tuple[str, float, float]) -> Features:
    texts, starts, ends = zip(*lines, strict=True)
    return Features(
        values, np.array(starts), np.array(ends), texts, np.ones(len(lines), np.float32)
    )
