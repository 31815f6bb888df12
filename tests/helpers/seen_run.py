"""A synthetic finished run for tests of its report: manifest, store and similarity file, with
thumbnails, OCR and speech text, and a training log. No network is run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.thumbnail import jpeg
from m2hf.features import Features
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.keys import bucket_of, fingerprint, sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Card, Manifest, Row, captions_of
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader
from m2hf.thumbnails import as_string

BUCKETS = 2
ROLES = {"frames": "clip", "captions": "caption", "audio": "audio", "text": "text"}
LEVELS = {
    "visual": {"stream": "frames", "fusion": "none", "enabled": True},
    "audio_visual": {"stream": "audio", "fusion": "aligned", "enabled": True},
    "text": {"stream": "text", "fusion": "none", "enabled": True},
}
SCENES = ("a dog runs over wet grass", "two people cook noodles", "a train leaves the station")


class SeenRun:
    """A run in `folder`. names: ids of the test videos, with one caption each; read: OCR text;
    show: which of the displayed extractors have a stream. Every third video has no sound, every
    second one has OCR text; speech is long enough to be cut."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        captions: Sequence[str] = (),
        read: str = "OPEN",
        show: Sequence[str] = ("thumbnail", "ocr", "asr"),
    ) -> None:
        self.manifest_dir, self.store = folder / "manifest", folder / "store"
        self.run, self.names = folder / "run", tuple(names)
        texts = captions or [f"{SCENES[i % 3]}, take {i}" for i in range(len(names))]
        rows = tuple(
            Row(id=name, path=f"{i}.mp4", split="test", captions=(texts[i],))
            for i, name in enumerate(names)
        )
        self.manifest = Manifest(Card(name="seen", protocol="one_caption"), rows)
        self.manifest.save(self.manifest_dir)
        self.layout = StoreLayout(self.store, "seen")
        self.layout.record(BUCKETS)
        for name, items in self._features(read).items():
            if name not in ("thumbnail", "ocr", "asr") or name in show:
                self.add(name, items)
        self.run.mkdir(parents=True)
        (self.run / "checkpoint.safetensors").write_bytes(b"weights")
        self.log()
        self.file = self._scored()
        self.file.write(self.similarity)

    @property
    def similarity(self) -> Path:
        return self.run / "similarity.h5"

    def options(self) -> list[str]:
        """The command-line options of this run."""
        paths = {"manifest": self.manifest_dir, "store": self.store, "run": self.run}
        return [part for name, path in paths.items() for part in (f"--{name}", str(path))]

    def add(self, name: str, items: Mapping[str, Features]) -> None:
        """Write a stream."""
        reads = {r: fingerprint({"n": r}) for r in ("ocr", "asr")} if name == "text" else {}
        for bucket in range(BUCKETS):
            header = ShardHeader(
                "seen", name, 1, fingerprint({"n": name}), bucket, BUCKETS, self.manifest.digest,
                {"reads": reads}, {}, {}, ("speech", "hallucinated") if name == "asr" else (),
                ["untrained"] if name == "audio" else [],
            )  # fmt: skip
            inside = [
                ShardItem(item, features, "0" * 64)
                for item, features in items.items()
                if bucket_of(item, BUCKETS) == bucket
            ]
            path = self.layout.shard(name, header.fingerprint, bucket, BUCKETS)
            width = next(iter(items.values())).values.shape[1]
            write_shard(path, header, inside, "float32", width)

    def log(self, epochs: int = 12) -> None:
        """Write a training log."""
        lines = []
        for epoch in range(1, epochs + 1):
            by_level = {name: 1 / (epoch + i) for i, name in enumerate(LEVELS)}
            line: dict[str, Any] = {"epoch": epoch, "stage": "", "share": {}, "gradient": by_level}
            line["loss"] = {**by_level, "late_fusion": 3 / epoch}
            line["val_recall"] = {name: 40 - 30 * value for name, value in by_level.items()}
            lines.append(json.dumps(line) + "\n")
        (self.run / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")

    def _features(self, read: str) -> dict[str, dict[str, Features]]:
        rng = np.random.default_rng(0)
        one = Features(np.ones((1, 2)), np.zeros(1), np.ones(1))
        found: dict[str, dict[str, Features]] = {
            "clip": dict.fromkeys(self.names, one),
            "caption": {c.id: one for c in captions_of(self.manifest.rows)},
            **{name: {} for name in ("audio", "text", "ocr", "asr", "thumbnail")},
        }
        for i, name in enumerate(self.names):
            silent = Features.empty("no audio stream", 2)
            found["audio"][name] = one if i % 3 else silent
            unread = Features.empty("no text found", 2, texts=True)
            found["ocr"][name] = _strings(read, f"{read} {i}") if i % 2 else unread
            found["text"][name] = one if i % 2 else Features.empty("no text read or heard", 2)
            talk = " ".join(f"and then {SCENES[(i + n) % 3]}" for n in range(4))
            found["asr"][name] = _strings(f"{read} {talk}")
            found["thumbnail"][name] = _thumbnail(rng)
        return found

    def _scored(self) -> SimilarityFile:
        """Scores that mostly rank the ground-truth video first."""
        rng, count = np.random.default_rng(1), len(self.names)
        has_sound, has_text = np.arange(count) % 3 > 0, np.arange(count) % 2 > 0
        everything = np.ones(count, dtype=np.bool_)
        masks = {"visual": everything, "audio_visual": has_sound, "text": has_text}
        scores = {}
        for weight, (name, mask_V) in zip((0.25, 0.18, 0.3), masks.items(), strict=True):
            noise = 0.1 * rng.normal(size=(count, count))
            scores[name] = np.where(mask_V, noise + weight * np.eye(count), -1.0)
        parts = [np.where(masks[name], matrix, 0.0) for name, matrix in scores.items()]
        scores["late_fusion"] = np.sum(parts, axis=0)
        captions = tuple(c.id for c in captions_of(self.manifest.rows))
        return SimilarityFile(
            dataset="seen",
            benchmark="",
            split="test",
            manifest=self.manifest.digest,
            checkpoint=sha256_file(self.run / "checkpoint.safetensors"),
            trained_on="seen",
            streams={role: self._about(role, captions) for role in ROLES},
            config={"levels": LEVELS, "strategy": "end_to_end", "train": {"seed": 0}},
            flags={"audio": ["untrained"]},
            missing={"captions": 0, "audio": int((~has_sound).sum())},
            declared={},
            query_ids=captions,
            video_ids=self.names,
            video_of_query=np.arange(count),
            scores={name: matrix.astype(np.float32) for name, matrix in scores.items()},
            masks=masks,
            present={"frames": everything, "audio": has_sound, "text": has_text},
        )

    def _about(self, role: str, captions: Sequence[str]) -> dict[str, Any]:
        stream = Stream.open(self.layout, ROLES[role])
        reads = {r: fingerprint({"n": r}) for r in ("ocr", "asr")} if role == "text" else {}
        return {
            "stream": stream.info.name,
            "fingerprint": stream.info.fingerprint,
            "digest": stream.digest(captions if role == "captions" else self.names),
            "shards": self.layout.digest(stream.info.name),
            "extractor": ROLES[role],
            "revision": 1,
            "config": {"reads": reads},
            "weights": {},
        }


def _strings(*texts: str) -> Features:
    times: NDArray[np.float64] = np.arange(len(texts), dtype=np.float64)
    return Features(np.zeros((len(texts), 2)), times, times + 1, texts, np.ones(len(texts)))


def _thumbnail(rng: np.random.Generator) -> Features:
    """A thumbnail of coloured fields, with a realistic file size."""
    fields = np.repeat(np.repeat(rng.integers(0, 200, (6, 8, 3)), 20, axis=0), 20, axis=1)
    grain = rng.integers(0, 40, (120, 160, 1))
    image = (fields + grain).astype(np.uint8)
    zero, one = np.zeros(1), np.ones(1)
    return Features(np.ones((1, 3)), zero, one, (as_string(jpeg(image, 50)),), one)
