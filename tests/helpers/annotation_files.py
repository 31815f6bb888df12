"""Small annotation files of every benchmark, in the owners' formats."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CLIP = "{}_FILM_00.00.0{}.000-00.00.0{}.500"


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([list(header), *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def compress(path: Path) -> None:
    """Replace NAME by NAME.gz."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def video_info(
    splits: Mapping[str, str], sentences: Iterable[tuple[str, str]], first: int = 0
) -> Any:
    """A videodatainfo file: clips with their split, sentences numbered from `first`."""
    return {
        "info": {"version": "1.0"},
        "videos": [{"video_id": v, "split": s, "category": 9} for v, s in splits.items()],
        "sentences": [
            {"video_id": video, "caption": text, "sen_id": first + number}
            for number, (video, text) in enumerate(sentences)
        ],
    }


def msrvtt(folder: Path) -> None:
    early = {"video0": "train", "video1": "train", "video2": "validate"}
    late = {"video3": "test", "video4": "test"}
    sentences = [
        (video, f"{video} {at} ") for at in ("first", "again") for video in (*early, *late)
    ]
    parts = [[pair for pair in sentences if pair[0] in part] for part in (early, late)]
    write_json(folder / "train_val_videodatainfo.json", video_info(early, parts[0]))
    write_json(folder / "test_videodatainfo.json", video_info(late, parts[1], first=len(parts[0])))
    write_csv(folder / "MSRVTT_train.7k.csv", ["video_id"], [[video] for video in early])
    write_csv(folder / "MSRVTT_train.9k.csv", ["video_id"], [[v] for v in (*early, "video3")])
    write_csv(
        folder / "MSRVTT_JSFUSION_test.csv",
        ["key", "vid_key", "video_id", "sentence"],
        [["ret0", "msr4", "video4", "a query, unchanged"]],
    )


def msvd(folder: Path) -> None:
    ids = {"train": ["-a_0_5", "b_1_2"], "val": ["c_3_4"], "test": ["d_5_6", "e_7_8"]}
    for split, listed in ids.items():
        write_lines(folder / f"{split}_list.txt", listed)
    everything = [video for listed in ids.values() for video in listed]
    captions = {video: [f"{video} {n}" for n in range(3)] for video in everything}
    write_json(folder / "captions_msvd.json", captions)


def lsmdc_line(clip: str, sentence: str) -> str:
    start, _, end = clip.rpartition("_")[2].partition("-")
    return "\t".join([clip, start, end, start, end, sentence])


def lsmdc(folder: Path) -> None:
    names = ("annos_training", "annos_val", "challenge_1000_publictect")
    for number, name in enumerate(names):
        clips = [CLIP.format(f"000{number}", at, at) for at in range(2)]
        lines = [lsmdc_line(clip, f'SOMEONE, "{number}".') for clip in clips]
        write_lines(folder / f"LSMDC16_{name}.csv", lines)


def moment(video: str, text: str, times: list[list[int]], number: int) -> Any:
    """One description of a DiDeMo data file."""
    return {
        "video": video,
        "description": text,
        "times": times,
        "annotation_id": number,
        "num_segments": 6,
        "dl_link": "https://example.org",
    }


def didemo(folder: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        video, bare = f"{number}@N0_1_a.mov", f"{number}@N0_2_b."
        write_lines(folder / f"{split}_list.txt", [video, bare])
        moments = [
            moment(video, "then this", [[3, 3], [3, 4], [0, 0], [3, 3]], 10),
            moment(video, "first that\n", [[1, 1], [1, 2], [5, 5], [0, 1]], 11),
            moment(video, "at the same time", [[3, 3], [3, 4], [3, 3], [3, 3]], 12),
            moment(bare, " alone", [[0, 5]], 13),
            moment(f"{number}@N0_3_c.avi", "in no list", [[0, 0]], 14),
            moment(f"{number}@N0_1_a.mp4", "under another extension", [[0, 0]], 15),
        ]
        write_json(folder / f"{split}_data.json", moments)


def activitynet(folder: Path) -> None:
    for name, videos in (("train", ("v_a", "v_-b")), ("val_1", ("v_c",))):
        paragraph = {
            "duration": 10.0,
            "timestamps": [[5.0, 10.01], [0, 3.5], [5.0, 6.0]],
            "sentences": ["Second.", " First. ", "\nThird."],
        }
        write_json(folder / f"{name}.json", dict.fromkeys(videos, paragraph))


MAKERS = {
    "activitynet": activitynet,
    "didemo": didemo,
    "lsmdc": lsmdc,
    "msrvtt-1ka-7k": msrvtt,
    "msrvtt-1ka-9k": msrvtt,
    "msrvtt-full": msrvtt,
    "msvd": msvd,
}


def make(name: str, folder: Path) -> Path:
    """Write the files of the benchmark `name` to `folder`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    MAKERS[name](folder)
    return folder
