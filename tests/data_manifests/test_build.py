"""The benchmarks' manifests: counts of the official files, what is missing, and the command."""

import csv
import gzip
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotation_files as made
import numpy as np
import pytest
import typer.main
from checkout import ROOT

from m2hf.cli.app import app
from m2hf.cli.recipe import load_recipe
from m2hf.data_manifests.build import MISSING, READERS, BuiltManifest, build, card
from m2hf.errors import ManifestError, UsageError
from m2hf.fuse.tables.paper import RESULTS, paper_result
from m2hf.manifest import Card, Manifest, Row, Split

Command = Callable[..., "subprocess.CompletedProcess[str]"]

RECIPES = {"msrvtt": 12, "msvd": 12, "lsmdc": 12, "didemo": 64, "activitynet": 64}

# Videos and captions of each split, in the order train, val, test.
COUNTS: dict[str, dict[Split, tuple[int, int]]] = {
    "activitynet": {"train": (10009, 10009), "test": (4917, 4917)},
    "didemo": {"train": (8392, 8392), "val": (1065, 1065), "test": (1004, 1004)},
    "lsmdc": {"train": (101079, 101079), "val": (7408, 7408), "test": (1000, 1000)},
    "msrvtt-1ka-7k": {"train": (7010, 140200), "test": (1000, 1000)},
    "msrvtt-1ka-9k": {"train": (9000, 180000), "test": (1000, 1000)},
    "msrvtt-full": {"train": (6513, 130260), "val": (497, 9940), "test": (2990, 59800)},
    "msvd": {"train": (1200, 48774), "val": (100, 4290), "test": (670, 27763)},
}


def didemo_train(folder: Path) -> None:
    """A train_data.json in the owners' format for the videos of train_list.txt."""
    listed = (folder / "train_list.txt").read_text(encoding="utf-8").split()
    moments = [
        made.moment(video, f"{word} of {number}\n", [[at, at]] * 4, 3 * number + at)
        for number, video in enumerate(listed)
        for at, word in ((2, "end"), (0, "begin"))
    ]
    made.write_json(folder / "train_data.json", moments)


def lsmdc_train(folder: Path) -> None:
    """A training file in the owners' format with their number of lines."""
    clips = [
        f"{at % 7:04d}_FILM_{at // 3600:02d}.{at // 60 % 60:02d}.{at % 60:02d}.000-99.00.00.000"
        for at in range(101079)
    ]
    lines = [made.lsmdc_line(clip, f"SOMEONE {clip}.") for clip in clips]
    made.write_lines(folder / "LSMDC16_annos_training.csv", lines)


@pytest.fixture(scope="module")
def official(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official files, by data set, with generated ones where those may not be distributed."""
    root = tmp_path_factory.mktemp("official")
    for source in (shared_data / "annotations").glob("*/*"):
        (root / source.parent.name).mkdir(exist_ok=True)
        (root / source.parent.name / source.name).symlink_to(source)
    didemo_train(root / "didemo")
    lsmdc_train(root / "lsmdc")
    return root


@pytest.fixture(scope="module")
def built(official: Path) -> Callable[[str], BuiltManifest]:
    done: dict[str, BuiltManifest] = {}

    def get(name: str) -> BuiltManifest:
        if name not in done:
            done[name] = build(name, official / name.partition("-")[0])
        return done[name]

    return get


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_counts_are_the_card_s(built: Callable[[str], BuiltManifest], name: str) -> None:
    found = built(name)
    counts = {split: (n.videos, n.captions) for split, n in found.manifest.counts().items()}
    assert counts == COUNTS[name]
    assert found.differences == found.left_out == found.missing == ()
    assert found.manifest.check() == []
    assert found.manifest.card == card(name)


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_card_declares_itself(name: str) -> None:
    declared = card(name)
    assert declared.name == name
    assert {s: (n.videos, n.captions) for s, n in declared.splits.items()} == COUNTS[name]
    assert declared.source
    assert declared.licence
    assert (paper_result(declared.benchmark) is None) == (name == "msrvtt-full")


def test_only_lsmdc_flags_its_speech() -> None:
    flagged = {name: set(card(name).flags) for name in READERS if card(name).flags}
    assert flagged == {"lsmdc": {"asr", "text"}}


def test_msrvtt_test_queries_are_those_of_jsfusion(
    built: Callable[[str], BuiltManifest], official: Path
) -> None:
    with (official / "msrvtt" / "MSRVTT_JSFUSION_test.csv").open(encoding="utf-8") as stream:
        queries = [(row["video_id"], (row["sentence"],)) for row in csv.DictReader(stream)]
    test = built("msrvtt-1ka-9k").manifest.split("test")
    assert [(row.id, row.captions) for row in test] == queries
    assert (queries[0][0], queries[-1][0]) == ("video9770", "video9871")
    assert built("msrvtt-1ka-7k").manifest.split("test") == test
    full, seven = built("msrvtt-full").manifest, built("msrvtt-1ka-7k").manifest
    assert {row.id: row.captions for row in seven.split("train")} == {
        row.id: row.captions for split in ("train", "val") for row in full.split(split)
    }
    assert all(len(row.captions) == 20 for row in full.rows)


def test_msvd_keeps_every_caption(built: Callable[[str], BuiltManifest], official: Path) -> None:
    captions = read(official / "msvd" / "captions_msvd.json.gz")
    assert {row.id: list(row.captions) for row in built("msvd").manifest.rows} == captions
    test = built("msvd").manifest.split("test")
    assert (test[0].id, test[0].path) == ("eyhzdC936uk_15_27", "eyhzdC936uk_15_27.avi")


def test_lsmdc_test_is_a_part_of_the_annotated_test(
    built: Callable[[str], BuiltManifest], official: Path
) -> None:
    with gzip.open(official / "lsmdc" / "LSMDC16_annos_test.csv.gz", "rt") as stream:
        sentences = dict(line.rstrip("\n").split("\t")[::5] for line in stream)
    test = built("lsmdc").manifest.split("test")
    assert all(row.captions == (sentences[row.id].strip(),) for row in test)
    assert all(row.path.partition("/")[0] == row.id.rpartition("_")[0] for row in test)


@pytest.mark.parametrize("split", ["val", "test"])
def test_didemo_paragraphs_are_in_time_order(
    built: Callable[[str], BuiltManifest], official: Path, split: Split
) -> None:
    moments: dict[str, list[Any]] = {}
    for entry in read(official / "didemo" / f"{split}_data.json.gz"):
        moments.setdefault(entry["video"], []).append(entry)
    for row in built("didemo").manifest.split(split):
        entries = moments[row.path]
        medians = [(*np.median(e["times"], axis=0), e["annotation_id"]) for e in entries]
        order = sorted(range(len(entries)), key=lambda at: medians[at])
        assert row.captions == (" ".join(entries[at]["description"].strip() for at in order),)
        assert (row.start, row.end) == (0.0, 30.0)
    left = {remark.text.partition(":")[0]: len(remark.ids) for remark in built("didemo").remarks}
    assert left == {
        "29 videos of val_data.json are listed with another extension": 29,
        "33 videos of test_data.json are listed with another extension": 33,
    }


def test_a_made_didemo_train_file(built: Callable[[str], BuiltManifest]) -> None:
    first = built("didemo").manifest.split("train")[0]
    assert first.captions == ("begin of 0 end of 0",)


def test_activitynet_sentences_are_in_time_order(
    built: Callable[[str], BuiltManifest], official: Path
) -> None:
    data = read(official / "activitynet" / "val_1.json.gz")
    moved = 0
    for row in built("activitynet").manifest.split("test"):
        starts = np.array(data[row.id]["timestamps"])[:, 0]
        order = np.argsort(starts, kind="stable")
        moved += order.tolist() != list(range(len(order)))
        sentences = [data[row.id]["sentences"][at].strip() for at in order]
        assert row.captions == (" ".join(sentences),)
    assert moved == 131
    remarks = {remark.text: remark.ids for remark in built("activitynet").remarks}
    assert [len(ids) for ids in remarks.values()] == [15, 9, 1]
    assert remarks["1 videos of val_1.json are not in val_ids.json"] == ("v_0dkIbKXXFzI",)


def test_videos_are_found_by_name_and_the_missing_listed(
    official: Path, shared_data: Path, tmp_path: Path
) -> None:
    built = build("msrvtt-1ka-9k", official / "msrvtt", shared_data / "clips", only=("test",))
    found = {row.id for row in built.manifest.rows} - {row.id for row in built.missing}
    assert found == {"video7202", "video7500", "video8331"}
    assert len(built.manifest.rows) == 1000
    built.save(tmp_path)
    lines = (tmp_path / MISSING).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "video9770\tvideo9770.mp4"
    assert len(lines) == 997
    assert built.left_out == ("train",)
    assert len(built.manifest.check(shared_data / "clips")) == 997 + 1  # and the train split


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "media"


def test_containers_and_folders_may_differ(tmp_path: Path) -> None:
    media = folder_of(
        tmp_path,
        "0@N0_1_a.mp4",  # renamed
        "part/1@N0_1_a.mov.mp4",  # as the owners' script names it
        "2@N0_1_a.mov",  # as the list has it
        "2@N0_1_a.mp4",
        "2@N0_2_b.",  # a name that ends with its dot
        ".0@N0_2_b.mp4",
        "0@N0_2_b.wav",
    )
    built = build("didemo", made.make("didemo", tmp_path / "files"), media)
    assert {row.id: row.path for row in built.manifest.rows} == {
        "0@N0_1_a": "0@N0_1_a.mp4",
        "0@N0_2_b": "0@N0_2_b.",
        "1@N0_1_a": "part/1@N0_1_a.mov.mp4",
        "1@N0_2_b": "1@N0_2_b.",
        "2@N0_1_a": "2@N0_1_a.mov",
        "2@N0_2_b": "2@N0_2_b.",
    }
    assert [row.id for row in built.missing] == ["0@N0_2_b", "1@N0_2_b"]


def test_two_files_of_one_video(tmp_path: Path) -> None:
    media = folder_of(tmp_path, "a/v_c.mkv", "b/v_c.WEBM")
    files = made.make("activitynet", tmp_path / "files")
    with pytest.raises(ManifestError, match=r"id 'v_c' .*: a/v_c.mkv and b/v_c.WEBM; .*v_c.mp4"):
        build("activitynet", files, media)
    with pytest.raises(UsageError, match=r"--media .*: no such folder"):
        build("activitynet", files, tmp_path / "none")


def test_a_list_of_missing_files_goes_when_none_is(tmp_path: Path) -> None:
    files = made.make("activitynet", tmp_path / "files")
    media = folder_of(tmp_path, "v_a.mp4", "v_-b.mkv")
    build("activitynet", files, media).save(tmp_path / "out")
    assert (tmp_path / "out" / MISSING).read_text(encoding="utf-8") == "v_c\tv_c.mp4\n"
    build("activitynet", files, folder_of(tmp_path, "v_c.webm")).save(tmp_path / "out")
    assert not (tmp_path / "out" / MISSING).exists()


def test_unknown_names_and_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'msrvtt-1ka-9k'"):
        build("msrvtt_1ka", tmp_path)
    with pytest.raises(UsageError, match="toybox is generated: m2hf manifest toybox --out DIR"):
        build("toybox", tmp_path)
    with pytest.raises(UsageError, match="known: activitynet, didemo"):
        build("?", tmp_path)
    with pytest.raises(UsageError, match="--splits val: activitynet has train, test"):
        build("activitynet", tmp_path, only=("val",))


@pytest.mark.parametrize(
    ("protocol", "split", "several"),
    [
        ("one_caption", "train", False),
        ("one_caption", "test", True),
        ("multi_caption", "test", False),
        ("paragraph", "train", True),
        ("paragraph", "test", True),
    ],
)
def test_a_protocol_is_checked(protocol: str, split: str, several: bool) -> None:
    row = Row.model_validate({"id": "a", "path": "a", "split": split, "captions": ["x", "y"]})
    found = Manifest(Card.model_validate({"name": "set", "protocol": protocol}), (row,)).check()
    assert [line.endswith("more than one caption: a") for line in found] == [True] * several


def test_build_by_command(tmp_path: Path, m2hf: Command) -> None:
    files = made.make("didemo", tmp_path / "files")
    (files / "train_data.json").unlink()
    options = ("--annotations", files, "--out", tmp_path / "out")
    refused = m2hf("manifest", "build", "didemo", *options)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "no train_data.json" in refused.stderr
    assert not (tmp_path / "out").exists()
    media = folder_of(tmp_path, "1@N0_1_a.mp4", "1@N0_2_b.mp4", "2@N0_1_a.mp4")
    part = m2hf("manifest", "build", "didemo", *options, "--splits", "val,test", "--media", media)
    assert part.returncode == 3, part.stderr
    assert part.stdout.splitlines()[:4] == [
        "val: 2 videos, 2 captions",
        "test: 2 videos, 2 captions",
        "train: left out; the card declares 8392 videos, 8392 captions",
        "split test: card declares 1004 videos and 1004 captions, rows have 2 and 2",
    ]
    assert "1 of 4 videos have no file under" in part.stdout
    printed = m2hf("manifest", "build", "didemo", *options, "--splits", "test", "--json")
    report = json.loads(printed.stdout)
    assert report["left_out"] == ["train", "val"]
    assert [remark["ids"] for remark in report["remarks"]] == [["2@N0_1_a.mp4"], ["2@N0_3_c.avi"]]
    assert report["digest"] == Manifest.load(tmp_path / "out").digest


def test_list_by_command(m2hf: Command) -> None:
    lines = m2hf("manifest", "list").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == sorted([*READERS, "toybox"])
    assert "msvd: multi_caption; train 1200 (48774 captions)" in lines[-2]
    assert lines[-1].startswith("toybox: multi_caption; train ")
    listed = json.loads(m2hf("manifest", "list", "--json").stdout)
    assert listed["lsmdc"]["splits"]["test"] == {"videos": 1000, "captions": 1000}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_goes_from_manifest_to_table(name: str) -> None:
    path = ROOT / "pipelines" / "recipes" / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    recipe = load_recipe(path, [])[0]
    assert recipe.extract.clip.max_frames == RECIPES[name]
    assert recipe.fuse.train.batch_size == 128
    assert tomllib.loads(text)["extract"]["encoder"]["pretrained"] == "openai"
    commands = re.findall(r"^#   m2hf (.*)$", text, flags=re.MULTILINE)
    verbs = [known(command.split()) for command in commands]
    assert verbs == ["manifest build", "plan", "extract", "train", "eval", "tables"]
    built = card(commands[0].split()[2])
    result = paper_result(built.benchmark)
    assert result in RESULTS
    expected = f"paper {result.recall} (journal {result.journal})"
    assert re.search(rf"^# Expect: T2V R@1 {re.escape(expected)}", text, flags=re.MULTILINE)


def known(words: list[str]) -> str:
    """The verb of a command whose every option there is."""
    command: Any = typer.main.get_command(app)
    verb: list[str] = []
    while hasattr(command, "commands"):
        verb.append(words.pop(0))
        command = command.commands[verb[-1]]
    flags = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= flags
    return " ".join(verb)
