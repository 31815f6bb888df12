"""Reports: winners and order against naive loops, hostile text, equal bytes, and inputs that don't
belong together."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from seen_run import SeenRun

from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.fuse.curves import panels
from m2hf.fuse.report.chart import charts
from m2hf.fuse.report.contribution import Contribution
from m2hf.fuse.report.page import page
from m2hf.fuse.report.query_cards import QueryCards
from m2hf.fuse.report.source import ReportSource
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.trace import Trace
from m2hf.keys import sha256_file
from m2hf.manifest import Manifest

HOSTILE = (
    "</style></script><script>alert(1)</script>",
    "\"'><img src=//evil.example onerror=alert(2)>",
    "<!-- m2hf.table: {} --> {{ 7 * 7 }} &lt;",
    "\u202egpj.exe\u2066 \u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 caf\u00e9 \U0001f600",
)
LEVELS = ("a", "b", "c")


def scored(seed: int, count: int = 6, ties: int = 3) -> SimilarityFile:
    """Small matrices with ties; each level lacks some videos."""
    rng = np.random.default_rng(seed)
    masks = {name: rng.random(count) < 0.7 for name in LEVELS}
    draw = rng.integers(0, ties, (len(LEVELS) + 1, 2 * count, count)).astype(np.float32)
    scores = {n: np.where(masks[n], draw[i], -1.0) for i, n in enumerate(LEVELS)}
    return SimilarityFile(
        "d", "", "test", "", "", "d", {}, {}, {}, {}, {},
        tuple(f"q{i}" for i in range(2 * count)), tuple(f"v{i}" for i in range(count)),
        np.arange(2 * count) % count, {}, {**scores, "late_fusion": draw[-1]}, masks,
    )  # fmt: skip


def naive_rank(scores_V: Sequence[float], right: int) -> float:
    better = sum(score > scores_V[right] for score in scores_V)
    level = sum(score == scores_V[right] for score in scores_V) - 1
    return 1 + better + level / 2


@given(st.integers(0, 10_000))
def test_the_winner_is_the_best_level_that_covers_the_video(seed: int) -> None:
    file = scored(seed)
    found = Contribution.of(file)
    wins, verdicts = dict.fromkeys(LEVELS, 0.0), {"better": 0, "equal": 0, "worse": 0}
    uncovered = 0
    for query, right in enumerate(file.video_of_query.tolist()):
        ranks = {
            n: naive_rank(file.scores[n][query].tolist(), right)
            for n in LEVELS
            if file.masks[n][right]
        }
        fused = naive_rank(file.scores["late_fusion"][query].tolist(), right)
        winners = [name for name, rank in ranks.items() if rank == min(ranks.values())]
        assert found.winners(query) == tuple(winners)
        if not ranks:
            uncovered += 1
            continue
        for name in winners:
            wins[name] += 1 / len(winners)
        best = min(ranks.values())
        verdicts["better" if fused < best else "equal" if fused == best else "worse"] += 1
    assert {t.name: t.wins for t in found.totals()} == pytest.approx(wins)
    fusion = found.fusion()
    assert {name: getattr(fusion, name) for name in verdicts} == verdicts
    assert fusion.uncovered == uncovered
    assert sum(wins.values()) == pytest.approx(len(file.query_ids) - uncovered)


@given(st.integers(0, 10_000))
def test_cards_are_worst_first_with_the_top_five_and_the_right_one(seed: int) -> None:
    file = scored(seed, count=7, ties=9)
    cards = list(QueryCards.of(file, Contribution.of(file)).cards())
    keys = []
    for card in cards:
        fused = file.scores["late_fusion"][card.query].astype(float)
        right = int(file.video_of_query[card.query])
        spread = fused[file.covered_V].std() if file.covered_V.any() else fused.std()
        margin = (np.delete(fused, right).max() - fused[right]) / (spread or np.inf)
        keys.append((-naive_rank(fused.tolist(), right), -round(margin, 9)))
        shown = [tile.video for tile in card.tiles]
        best = sorted(range(7), key=lambda v: (-fused[v], v))[:5]
        assert shown == (best if right in best else [*best, right])
        assert [tile.video for tile in card.tiles if tile.correct] == [right]
        for tile in card.tiles:
            assert tile.rank == naive_rank(fused.tolist(), tile.video)
            for bar in tile.bars[:-1]:
                covered = file.masks[bar.level]
                assert (bar.deviations is not None) == covered[tile.video]
                if bar.deviations is not None:
                    row = file.scores[bar.level][card.query].astype(float)
                    apart = row[tile.video] - row[covered].mean()
                    assert bar.deviations == pytest.approx(apart / (row[covered].std() or 1.0))
    assert keys == sorted(keys)
    assert [card.position for card in cards] == list(range(1, 15))


def test_of_many_queries_the_worst_and_some_others_are_shown() -> None:
    file = scored(0, count=700, ties=100_000)
    positions = list(QueryCards.of(file, Contribution.of(file)).positions)
    assert len(set(positions)) == 1000
    assert positions[:900] == list(range(900))
    assert positions[-1] == 1399


@given(
    arrays(np.float64, st.integers(1, 9), elements=st.floats(-1e6, 1e6, allow_subnormal=False)),
    st.booleans(),
)
def test_curves_lie_inside_their_chart(values: Any, broken: bool) -> None:
    line = {"stage": "", "val_recall": {}, "share": {}, "gradient": {}}
    logged = [{**line, "epoch": e, "loss": {"a": v}} for e, v in enumerate(values.tolist(), 1)]
    if broken:
        logged.append({**line, "epoch": len(logged) + 1, "loss": {"a": float("nan")}})
    (chart,) = charts(panels("".join(json.dumps(x) + "\n" for x in logged)))
    for drawn in chart.polylines:
        corners = [tuple(map(float, p.split(","))) for p in drawn.points.split()]
        assert all(48 <= x <= 352 and 12 <= y <= 190 for x, y in corners)
        ordered = sorted(corners, key=lambda corner: corner[0])
        assert corners == ordered
    assert all(12 <= tick.position <= 190 for tick in chart.values)
    assert [float(tick.text) for tick in chart.epochs] == sorted(
        float(tick.text) for tick in chart.epochs
    )


class Parsed(HTMLParser):
    """Tags with their attributes, and the text between them that is neither script nor style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._raw = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._raw else data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> SeenRun:
    names = [
        f"{HOSTILE[i % 4].replace(chr(0x202E), '').replace(chr(0x2066), '')} {i}" for i in range(12)
    ]
    captions = [f"{HOSTILE[i % 5]} caption {i}" for i in range(12)]
    return SeenRun(tmp_path_factory.mktemp("hostile"), names, captions, read="".join(HOSTILE[:2]))


def opened(run: SeenRun) -> ReportSource:
    return ReportSource.open(run.manifest, run.store, run.run, None)


def test_hostile_text_is_no_markup_and_bidi_overrides_are_escaped(hostile: SeenRun) -> None:
    text = page(opened(hostile))
    parsed = Parsed(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not {"img", "link", "iframe", "object", "base"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith("#")
    for text_shown in (*HOSTILE[:3], HOSTILE[4], r"\u202egpj.exe\u2066 " + HOSTILE[3][-9:]):
        assert f"{text_shown} caption" in parsed.text
    assert not {"\u202e", "\u2066"} & set(text)
    assert len(re.findall(r"^<!-- m2hf\.table: ", text, flags=re.MULTILINE)) == 1
    assert "untrained" in parsed.text
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    thumbnails = re.findall(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", text)
    assert len(thumbnails) == len(set(thumbnails)) == 12


def test_kinds_of_queries_have_lines_and_are_text_too(hostile: SeenRun) -> None:
    source = opened(hostile)
    kinds = dict.fromkeys(source.file.query_ids, HOSTILE[0])
    parsed = Parsed(page(source, QueryKinds(Path("kinds.csv"), "0" * 64, kinds)))
    assert f"T2V, kind {HOSTILE[0]}" in parsed.text
    assert "query kinds" in parsed.text
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert "T2V, kind" not in page(source)


def test_equal_input_elsewhere_gives_equal_bytes_that_trace(
    hostile: SeenRun, tmp_path: Path, m2hf: Callable[..., Any]
) -> None:
    for name in ("store", "run", "manifest"):
        shutil.copytree(getattr(hostile, f"{name}_dir", hostile.run.parent / name), tmp_path / name)
    options = ("--manifest", "manifest", "--store", "store", "--run", "run")
    done = m2hf("report", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "audio: untrained\nwrote run/report.html\n"
    written = tmp_path / "run" / "report.html"
    assert written.read_text(encoding="utf-8") == page(opened(hostile))
    assert str(hostile.run.parent) not in written.read_text(encoding="utf-8")
    (run,) = Trace.of(written, "late_fusion").runs
    assert run["similarity"] == sha256_file(hostile.similarity)


def test_remarks_name_what_is_missing_and_the_command_that_makes_it(tmp_path: Path) -> None:
    run = SeenRun(tmp_path, [f"v{i}" for i in range(4)], show=("asr",))
    (run.run / "metrics.jsonl").unlink()
    text = Parsed(page(opened(run))).text
    for name in ("thumbnail", "ocr"):
        command = f"m2hf extract --manifest MANIFEST --media VIDEOS --store STORE --only {name}"
        assert f"The store has no stream {name}; to make it: {command}" in text
    assert "no stream asr" not in text
    assert "No training curves: the run's folder has no metrics.jsonl." in text
    assert "no thumbnail" in text
    assert "speech: OPEN and then" in text
    assert "no audio stream (2)" in text


def test_names_of_what_frames_show_are_seen(tmp_path: Path) -> None:
    run = SeenRun(tmp_path, [f"v{i}" for i in range(4)])
    assert "seen: " not in (before := Parsed(page(opened(run))).text)
    assert "concepts" not in before
    row = Features(np.ones((1, 2)), np.zeros(1), np.ones(1), ("sports car, grille",), np.ones(1))
    run.add("concepts", dict.fromkeys(run.names, row))
    assert "seen: sports car, grille" in Parsed(page(opened(run))).text


def test_inputs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    run = SeenRun(tmp_path / "one", [f"v{i}" for i in range(4)])
    other = SeenRun(tmp_path / "two", [f"w{i}" for i in range(4)])
    with pytest.raises(MismatchError, match=r"scores of seen, manifest \w{8}, but --manifest is"):
        ReportSource.open(other.manifest, run.store, run.run, None)
    with pytest.raises(
        MismatchError, match=r"audio \(audio@\w+\) is not what .* was computed from"
    ):
        ReportSource.open(run.manifest, other.store, run.run, None)
    shutil.copytree(run.store, tmp_path / "few")
    shutil.rmtree(next((tmp_path / "few" / "seen").glob("clip@*")))
    with pytest.raises(MismatchError, match=r"its frames are clip@\w+; .* give the scored store"):
        ReportSource.open(run.manifest, tmp_path / "few", run.run, None)
    with pytest.raises(UsageError, match=r"no such file; `m2hf eval` writes RUN/similarity\.h5"):
        ReportSource.open(run.manifest, run.store, tmp_path, None)
    with pytest.raises(UsageError, match="no store"):
        ReportSource.open(run.manifest, tmp_path / "none", run.run, None)
    (run.run / "metrics.jsonl").write_text('{"epoch": 1}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"metrics\.jsonl, line 1: not the log of a tr"):
        opened(run)
    (run.run / "checkpoint.safetensors").write_bytes(b"trained again")
    with pytest.raises(MismatchError, match="computed with another checkpoint than"):
        opened(run)
    assert Manifest.load(run.manifest_dir).digest == run.manifest.digest
