"""Readers of annotation files: every published format, and errors that name the location."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import annotation_files as made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.data_manifests.activitynet import _Paragraph
from m2hf.data_manifests.build import READERS, build
from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import Row

NAMES = sorted(READERS)


def rows(name: str, folder: Path) -> dict[str, Row]:
    return build(name, made.make(name, folder)).manifest.by_id


def test_every_benchmark_has_a_form() -> None:
    assert sorted(made.MAKERS) == NAMES


def test_msrvtt(tmp_path: Path) -> None:
    full = rows("msrvtt-full", tmp_path)
    assert {i: (r.path, r.split) for i, r in full.items()} == {
        "video0": ("video0.mp4", "train"),
        "video1": ("video1.mp4", "train"),
        "video2": ("video2.mp4", "val"),
        "video3": ("video3.mp4", "test"),
        "video4": ("video4.mp4", "test"),
    }
    assert full["video3"].captions == ("video3 first", "video3 again")
    nine = rows("msrvtt-1ka-9k", tmp_path)
    assert [(r.id, r.split) for r in nine.values()] == [
        *((f"video{i}", "train") for i in range(4)),
        ("video4", "test"),
    ]
    assert nine["video4"].captions == ("a query, unchanged",)
    assert nine["video3"].captions == full["video3"].captions
    seven = build("msrvtt-1ka-7k", tmp_path)
    assert list(seven.manifest.by_id) == ["video0", "video1", "video2", "video4"]
    assert seven.remarks == ()


def test_every_msvd_caption_is_a_query(tmp_path: Path) -> None:
    found = rows("msvd", tmp_path)
    assert found["-a_0_5"].path == "-a_0_5.avi"
    assert [r.id for r in found.values() if r.split == "test"] == ["d_5_6", "e_7_8"]
    assert found["e_7_8"].captions == ("e_7_8 0", "e_7_8 1", "e_7_8 2")


def test_lsmdc_has_clips_in_film_folders_and_quotes_that_are_text(tmp_path: Path) -> None:
    found = rows("lsmdc", tmp_path)
    clip = made.CLIP.format("0002", 1, 1)
    assert found[clip].path == f"0002_FILM/{clip}.avi"
    assert (found[clip].split, found[clip].captions) == ("test", ('SOMEONE, "2".',))
    assert (found[clip].start, found[clip].end) == (None, None)


def test_lsmdc_repeats_a_clip_for_a_second_sentence(tmp_path: Path) -> None:
    made.make("lsmdc", tmp_path)
    clip = made.CLIP.format("0000", 0, 0)
    with (tmp_path / "LSMDC16_annos_training.csv").open("a", encoding="utf-8") as stream:
        stream.write(made.lsmdc_line(clip, "Again.") + "\n")
    built = build("lsmdc", tmp_path)
    assert built.manifest.by_id[clip].captions == ('SOMEONE, "0".', "Again.")
    (remark,) = built.remarks
    assert remark.text.startswith("1 clips have more than one line in LSMDC16_annos_training.csv")
    assert remark.ids == (clip,)


def test_didemo_joins_moments_by_the_median_of_their_annotators(tmp_path: Path) -> None:
    built = build("didemo", made.make("didemo", tmp_path))
    row = built.manifest.by_id["0@N0_1_a"]
    assert row.captions == ("first that then this at the same time",)
    assert (row.path, row.start, row.end) == ("0@N0_1_a.mov", 0.0, 30.0)
    assert built.manifest.by_id["2@N0_2_b"].path == "2@N0_2_b."
    assert [(remark.text, remark.ids) for remark in built.remarks[2:4]] == [
        (
            "1 videos of val_data.json are listed with another extension: "
            "descriptions under this one are left out",
            ("1@N0_1_a.mp4",),
        ),
        ("1 videos of val_data.json are in no list: left out", ("1@N0_3_c.avi",)),
    ]


def test_activitynet_joins_sentences_in_time_order(tmp_path: Path) -> None:
    found = rows("activitynet", tmp_path)
    assert [(r.id, r.split) for r in found.values()] == [
        ("v_a", "train"),
        ("v_-b", "train"),
        ("v_c", "test"),
    ]
    assert found["v_c"].captions == ("First. Second. Third.",)
    assert (found["v_c"].start, found["v_c"].end) == (None, None)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=6))
def test_a_paragraph_keeps_every_sentence_once_in_time_order(
    times: list[tuple[float, float]],
) -> None:
    text = _Paragraph(times, [str(at) for at in range(len(times))]).text("here")
    order = [int(word) for word in text.split(" ")]
    assert sorted(order) == list(range(len(times)))
    keys = [(times[at][0], at) for at in order]
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", NAMES)
def test_compressed_files_are_the_same(tmp_path: Path, name: str) -> None:
    plain = build(name, made.make(name, tmp_path)).manifest
    for path in [*tmp_path.iterdir()]:
        made.compress(path)
    assert build(name, tmp_path).manifest == plain


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_does_not_depend_on_the_order_of_a_file(tmp_path: Path, name: str) -> None:
    digest = build(name, made.make(name, tmp_path)).manifest.digest
    for path in tmp_path.iterdir():
        shuffle(path, random.Random(0))
    assert build(name, tmp_path).manifest.digest == digest


def shuffle(path: Path, rng: random.Random) -> None:
    """Put the entries of a file into another order: its lines, or the parts of its JSON."""
    if path.suffix == ".json":
        made.write_json(path, shuffled(json.loads(path.read_text()), rng))
    else:
        lines = path.read_text().splitlines()
        head = lines[: path.name.startswith("MSRVTT")]
        rest = lines[len(head) :]
        made.write_lines(path, head + rng.sample(rest, len(rest)))


def shuffled(value: object, rng: random.Random) -> object:
    if isinstance(value, dict) and "videos" in value:
        return {**value, **{k: shuffled(value[k], rng) for k in ("videos", "sentences")}}
    if isinstance(value, dict):
        return {key: value[key] for key in rng.sample(list(value), len(value))}
    assert isinstance(value, list)
    return rng.sample(value, len(value))


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return apply


def cut(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        made.compress(folder / name)
        packed = folder / f"{name}.gz"
        packed.write_bytes(packed.read_bytes()[:-12])

    return apply


def latin(folder: Path) -> None:
    (folder / "val_list.txt").write_bytes(b"c_3_4\ncaf\xe9_1_2\n")


CAPTIONS, LIST = "captions_msvd.json", "test_list.txt"
INFO, NINE, QUERIES = "test_videodatainfo.json", "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"
VAL, MOMENTS, PARAGRAPHS = "LSMDC16_annos_val.csv", "val_data.json", "val_1.json"
BAD = [
    ("msvd", cut(CAPTIONS), r"captions_msvd.json.gz: damaged gzip file .*download it again"),
    ("msvd", change(CAPTIONS, "{", "["), r"captions_msvd.json: Invalid JSON: .*line 1"),
    ("msvd", change(CAPTIONS, '"-a_0_5 0"', "7"), r"json: -a_0_5\[0\]: .*valid string"),
    ("msvd", change(CAPTIONS, '"-a_0_5 0"', '" "'), r"json: -a_0_5\[0\]: .*is empty"),
    (
        "msvd",
        change(LIST, "e_7_8", "b_1_2"),
        r"test_list.txt, line 2: 'b_1_2' is in split train and in test "
        r"\(first: .*train_list.txt, line 2\)",
    ),
    ("msvd", change(LIST, "e_7_8", "d_5_6"), r"line 2: 'd_5_6' is twice in split test"),
    ("msvd", change(LIST, "e_7_8", "e\x01"), r"line 2: id 'e\\x01': .*printable"),
    ("msvd", change(LIST, "e_7_8", "../e"), r"line 2: path '../e.avi': .*media root"),
    ("msvd", latin, r"val_list.txt, line 2: not UTF-8"),
    (
        "msrvtt-full",
        change(INFO, '"video_id": "video3", "caption"', '"video_id": "video9", "caption"'),
        r"info.json: sentences\[0\]: a caption of 'video9', which is not among the videos",
    ),
    ("msrvtt-full", change(INFO, "video3 first ", ""), r"sentences\[0\]: the caption is empty"),
    ("msrvtt-full", change(INFO, '"caption"', '"text"'), r"sentences\[0\].caption: Field required"),
    (
        "msrvtt-1ka-9k",
        change(NINE, "video_id", "id"),
        r"MSRVTT_train.9k.csv, line 1: the header is id, expected video_id",
    ),
    (
        "msrvtt-1ka-9k",
        change(NINE, "video3", "video4"),
        r"test.csv, line 2: 'video4' is in split train and in test \(first: .*9k.csv, line 5\)",
    ),
    (
        "msrvtt-1ka-9k",
        change(QUERIES, ',"a query, unchanged"', ""),
        r"test.csv, line 2: no sentence: the line is too short",
    ),
    ("msrvtt-1ka-9k", change(QUERIES, "a query, unchanged", " "), r"line 2: the caption is empty"),
    (
        "lsmdc",
        change(VAL, "\tSOMEONE", " SOMEONE"),
        r"annos_val.csv, line 1: 5 tab-separated columns, expected 6",
    ),
    ("lsmdc", change(VAL, "0001_FILM_", "0001-"), r"line 1: clip '0001-.*expected FILM_START-END"),
    ("lsmdc", change(VAL, '\tSOMEONE, "1".', "\t"), r"line 1: the caption is empty"),
    ("didemo", change(MOMENTS, "first that\\n", "\\n"), r"data.json: \[1\]: the caption is empty"),
    ("didemo", change(MOMENTS, "[[0, 0]]", "[]"), r"data.json: \[4\].times: .*at least 1"),
    (
        "activitynet",
        change(PARAGRAPHS, ", [5.0, 6.0]", ""),
        r"val_1.json: v_c: 3 sentences, 2 timestamps; expected one for each",
    ),
    (
        "activitynet",
        change(PARAGRAPHS, "\\nThird.", "\\n"),
        r"val_1.json: v_c.sentences\[2\]: the caption is empty",
    ),
]


def _name(value: object) -> str | None:
    """Of a test; a function has none that two processes would agree on."""
    return None if callable(value) else str(value)[-30:]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD, ids=_name)
def test_an_error_is_one_line_that_names_the_location(
    tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(made.make(name, tmp_path))
    with pytest.raises(ManifestError, match=message) as raised:
        build(name, tmp_path)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_error_for_a_missing_file_names_the_source(tmp_path: Path) -> None:
    made.make("didemo", tmp_path)
    (tmp_path / "train_data.json").unlink()
    with pytest.raises(UsageError, match=r"no train_data.json or .*LocalizingMoments.*--splits"):
        build("didemo", tmp_path)
    assert {r.split for r in build("didemo", tmp_path, only=("val", "test")).manifest.rows} == {
        "val",
        "test",
    }
    with pytest.raises(UsageError, match="no such folder; get the files from DiDeMo"):
        build("didemo", tmp_path / "none")


def test_listed_videos_without_captions_stay_and_are_named(tmp_path: Path) -> None:
    made.make("msvd", tmp_path)
    change("test_list.txt", "e_7_8", "e_7_9")(tmp_path)
    built = build("msvd", tmp_path)
    assert built.manifest.by_id["e_7_9"].captions == ()
    assert [(remark.text, remark.ids) for remark in built.remarks] == [
        ("1 videos of captions_msvd.json are in no list: left out", ("e_7_8",)),
        ("1 videos of split test have no caption; they are kept", ("e_7_9",)),
    ]


def test_clips_in_neither_split_are_named(tmp_path: Path) -> None:
    made.make("msrvtt-1ka-9k", tmp_path)
    change("MSRVTT_train.9k.csv", "video3\n", "")(tmp_path)
    (remark,) = build("msrvtt-1ka-9k", tmp_path).remarks
    assert remark.ids == ("video3",)


def test_activitynet_is_compared_with_its_lists_of_ids(tmp_path: Path) -> None:
    made.make("activitynet", tmp_path)
    made.write_json(tmp_path / "val_ids.json", ["v_z", "v_y"])
    assert [remark.ids for remark in build("activitynet", tmp_path).remarks] == [
        ("v_y", "v_z"),
        ("v_c",),
    ]
