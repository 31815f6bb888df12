"""`m2hf search` and `m2hf app`: what they show, and one clear line for a bad query."""

import contextlib
import copy
import dataclasses
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from chromium import DESKTOP, PHONE, tab
from safetensors.torch import save_file
from searchable import CONFIG, DECLARED, HOSTILE, NAME, WIDTH, Searchable
from typer.testing import CliRunner

from m2hf.cli.app import app
from m2hf.cli.query_encoder import query_encoder
from m2hf.errors import M2hfError
from m2hf.extract.caption import CaptionEncoder
from m2hf.extract.networks.encoder import Encoder
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.search.searcher import Searcher
from m2hf.fuse.search.web.media_files import MediaFiles
from m2hf.fuse.search.web.serve import bind, is_public, server, url
from m2hf.fuse.search.web.site import Site
from m2hf.fuse.training.run import train
from m2hf.layout import StoreLayout
from m2hf.manifest import Row, captions_of
from m2hf.streams import StreamName

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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


def test_as_text(corpus: Searchable) -> None:
    done = run("собака", *corpus.paths, "--top", "2")
    head, flags, *lines = done.stdout.splitlines()
    assert head == f"{NAME}: 13 videos searched; 1 without features not searched"
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
    """Refused before anything is loaded."""
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


def test_a_query_is_encoded_once_for_each_role(corpus: Searchable, tmp_path: Path) -> None:
    """What was read and heard has captions of another encoder than the frames'."""
    other = copy.copy(corpus)
    other.store, other.run = tmp_path / "store", tmp_path / "run"
    shutil.copytree(corpus.store, other.store)
    other.layout = StoreLayout(other.store, NAME)
    first = other.layout.find_stream("caption")
    seeded = CaptionEncoder(encoder=Encoder(model="m2hf-tiny", pretrained="", seed=1))
    session, rows = seeded.open("cpu"), corpus.manifest.rows[:-1]
    captions = {c.id: session.extract(c.text) for c in captions_of(rows)}
    second = StreamName.of("caption", other.write("caption", captions, WIDTH, seeded.declared({})))
    other.write("lines", {row.id: session.extract(f"number {row.id}") for row in rows}, WIDTH)
    streams = {"captions": first, "sentences": second, "lines": "lines"}
    levels = {**CONFIG["levels"], "lines": {"stream": "lines", "query": "sentences"}}
    config = FusionConfig.model_validate({**CONFIG, "streams": streams, "levels": levels})
    train(other.manifest, other.store, other.run, config)
    file = SimilarityFile.read(evaluate(other.manifest, other.store, other.run))
    row = file.query_ids.index("v10#0")
    found = hits(other, "a dog number 10", "--split", "test")
    assert len(found) == 3
    for hit in found:
        video = file.video_ids.index(hit["video"])
        for name in ("visual", "lines"):
            expected = float(file.scores[name][row, video])
            assert hit["levels"][name]["score"] == pytest.approx(expected, abs=2e-5)
    spread = file.scores["lines"][row]
    assert spread.max() > spread.min()


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
        """The header of captions made with this checkpoint file, and the section with its path."""
        save_file(state, path)
        encoder = Encoder(model="m2hf-tiny", pretrained=str(path))
        declared = DECLARED.model_copy(update={"encoder": encoder}).declared({})
        made = dataclasses.replace(header, config=declared, weights=declared["weights"])
        return made, {"encoder": {"pretrained": str(path)}}

    file, given = from_file()
    with pytest.raises(M2hfError, match=r"sha256 [0-9a-f]{64}; give its path: --set"):
        query_encoder(file, {}, "cpu")
    mine = query_encoder(file, given, "cpu")("a dog").values
    assert (mine == query_encoder(header, {}, "cpu")("a dog").values).all()
    state["token_embedding.weight"][corpus.session._model.tokenizer.encode("zebra!")] = 0
    unlearned, given = from_file()
    with pytest.raises(M2hfError, match=r"weights\.m2hf-tiny/file was '[0-9a-f]{64}' and is"):
        query_encoder(file, given, "cpu")
    encode = query_encoder(unlearned, given, "cpu")
    assert encode("a dog").reason == ""
    assert encode("a dog, a Zebra!").reason == "the encoder was never trained on 'Zebra'"
    assert encode("zebra " + "dog " * 99).reason == (
        "cut to 46 of 100 tokens; the encoder was never trained on 'zebra'"
    )
    with pytest.raises(M2hfError, match="trained on none of the words 'zebra'"):
        encode("zebra, zebra")
    accepted = query_encoder(unlearned, given, "cpu", refuse_unknown=False)("zebra, zebra")
    assert accepted.reason == "the encoder was never trained on 'zebra'"
    assert accepted.texts is not None
    assert accepted.texts[0] == "zebra, zebra"


# The page.


@dataclasses.dataclass(frozen=True)
class Page:
    """A page served by a thread of this process."""

    port: int
    url: str

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and body; the path is sent unescaped."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def page(corpus: Searchable) -> Iterator[Page]:
    index = SearchIndex.open(corpus.manifest, corpus.store, corpus.run)
    searcher = Searcher(index, {CAPTIONS: corpus.session.extract}, ("a dog",))
    with bind("127.0.0.1", 0) as listening:
        serving = server(Site(searcher, MediaFiles.open(corpus.media)).app(["my.host"]))
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        yield Page(listening.getsockname()[1], url(listening))
        serving.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def test_a_page_shows_what_search_finds(corpus: Searchable, page: Page) -> None:
    status, headers, body = page.get("/search.json?q=a+dog")
    found = json.loads(body)
    assert status == 200
    assert [hit["video"] for hit in found["hits"]] == [
        hit["video"] for hit in hits(corpus, "a dog", "--top", "12")
    ]
    status, headers, body = page.get("/?q=a+dog")
    text = body.decode()
    assert status == 200
    assert "script" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "<script" not in text  # of an id, a string that was read, or ours
    assert "&lt;script&gt;" in text
    assert text.count("<video ") == sum(hit["path"] != "gone.mp4" for hit in found["hits"])
    pictured = [row.id for row in corpus.manifest.rows[4:]]
    posters = sum(hit["video"] in pictured for hit in found["hits"])
    assert text.count('"data:image/jpeg;base64,') == posters > 0
    for hit in found["hits"]:
        if hit["path"] != "gone.mp4":
            place = [row.id for row in corpus.manifest.rows].index(hit["video"])
            assert f'src="/media/{place}#t={hit["file_start_s"]:.2f}"' in text


def test_a_page_says_what_is_wrong(page: Page) -> None:
    for path in ("/?q=", "/?q=%20", "/search.json", "/search.json?q=..."):
        status, _, body = page.get(path)
        assert (status, b"the query is empty" in body) == (400, True)
    assert page.get("/")[0] == 200
    assert b"Cyrillic" in page.get("/?q=%D1%81%D0%BE%D0%B1")[2]
    assert page.get("/?q=%FF%FE")[0] == 200  # not UTF-8: replacement characters
    assert b"&lt;b&gt;" in page.get("/?q=%3Cb%3E%22")[2]


def test_media_by_number_alone_whole_or_in_part(corpus: Searchable, page: Page) -> None:
    whole = (corpus.media / "1.mp4").read_bytes()
    status, headers, body = page.get("/media/1")
    assert (status, body, headers["content-type"]) == (200, whole, "video/mp4")
    assert headers["accept-ranges"] == "bytes"
    status, headers, body = page.get("/media/1", Range="bytes=100-199")
    assert (status, body) == (206, whole[100:200])
    assert headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert page.get("/media/1", Range=f"bytes={len(whole)}-")[0] == 416
    status, headers, body = page.get("/media/1", "HEAD")
    assert (status, body, int(headers["content-length"])) == (200, b"", len(whole))
    assert page.get("/media/1", "POST")[0] == 405
    assert page.get("/media/12")[::2] == (404, b"the file is not there\n")
    numbers = ("99", "-1", "", "0.mp4", "../../etc/passwd", "..%2f0.mp4", "%2e%2e/0")
    numbers = (*numbers, "9" * 1000, "9" * 5000, "1" * 18, "%D9%A1", "1.0", "+1")
    for path in ("/page.html", "/etc/passwd", "//etc/passwd", *(f"/media/{n}" for n in numbers)):
        assert page.get(path)[0] == 404, path


def test_links_do_not_lead_out_of_the_media(tmp_path: Path) -> None:
    outside, root = tmp_path / "secret", tmp_path / "media"
    outside.write_text("x", encoding="utf-8")
    root.mkdir()
    (root / "a.mp4").write_text("x", encoding="utf-8")
    (root / "out.mp4").symlink_to(outside)
    (root / "in.mp4").symlink_to(root / "a.mp4")
    (root / "round.mp4").symlink_to(root / "round.mp4")
    (root / "page.html").write_text("x", encoding="utf-8")
    os.mkfifo(root / "pipe.mp4")
    (tmp_path / "link").symlink_to(root)
    files = MediaFiles.open(tmp_path / "link")
    names = [path.name for path in root.iterdir()]
    found = {name: files.find(Row(id="v", path=name, split="test")) for name in names}
    assert {name: file.path and file.path.name for name, file in found.items()} == {
        "a.mp4": "a.mp4", "out.mp4": None, "in.mp4": "a.mp4", "round.mp4": None,
        "page.html": "page.html", "pipe.mp4": None,
    }  # fmt: skip
    assert found["page.html"].type == "application/octet-stream"
    assert "outside" in found["out.mp4"].reason
    with pytest.raises(M2hfError, match="no such folder"):
        MediaFiles.open(tmp_path / "none")


TARGETS = (
    b"/media/%", b"/media/%zz", b"/media/%00", b"/media/1%00", b"/media/%ED%A0%80", b"/media/\xff",
    b"/?q=%", b"/?q=%ED%A0%80", b"/?q=%00", b"/?q=a&q=b&q=%zz", b"/search.json?q=%F0%9F%98%80%00",
    b"/?" + b"&" * 5000, b"/?q=" + b"a" * 60_000, b"/?q=" + b"%61" * 400, b"/" + b"%2e/" * 900,
    b"*", b"http://localhost/media/" + b"1" * 3000, b"//" * 900, b"/\x00", b"", b"/a b",
)  # fmt: skip
HEADERS = (
    b"Range: bytes=" + b"9" * 3000 + b"-", b"Range: bytes=0-" + b"9" * 5000, b"Range: bytes=-",
    b"Range: bytes=" + b"0-0," * 3000, b"Range: bytes=5-1", b"Range: bytes=\xb2-", b"Range: x",
    b"Range: bytes=-" + b"1" * 5000, b"If-Range: \xff", b"If-Range: Thu, 99 Foo 99999 0:0:0 GMT",
    b"Content-Length: " + b"9" * 5000, b"Content-Length: -1", b"Transfer-Encoding: chunked",
    b"Host: localhost", b"X" * 70_000 + b": 1", b"X: " + b"y" * 200_000, b"\r\n" * 40_000,
    b"\r\n".join(b"X%d: 1" % n for n in range(4000)), b"no colon", b": x",
    b"Upgrade: websocket\r\nConnection: upgrade", b"Cookie: " + b"a=b;" * 9000,
)  # fmt: skip


def answer(port: int, request: bytes, ends: bool = False) -> bytes:
    """The status line that a request gets; b"" where the connection is closed without one.

    ends: whether the client says that nothing follows.
    """
    with socket.create_connection(("127.0.0.1", port), 30) as opened:
        with contextlib.suppress(OSError):  # the server may close before all of it was sent
            opened.sendall(request)
            if ends:
                opened.shutdown(socket.SHUT_WR)
        try:
            return opened.recv(4096).partition(b"\r\n")[0]
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("path", ["/media/1", "/?q=a+dog"])
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: repr(header[:24]))
def test_an_odd_header_is_answered(path: str, header: bytes, page: Page) -> None:
    request = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (path.encode(), header)
    status = answer(page.port, request)
    assert status[:10] in (b"", b"HTTP/1.1 2", b"HTTP/1.1 4"), status
    assert page.get("/")[0] == 200


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:24]))
def test_an_odd_address_is_answered(target: bytes, page: Page) -> None:
    status = answer(page.port, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
    assert status[:10] in (b"HTTP/1.1 2", b"HTTP/1.1 4"), status
    assert page.get("/")[0] == 200


@pytest.mark.parametrize(
    "request_", [b"GET /", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100_000]
)
def test_what_is_no_request_is_closed(request_: bytes, page: Page) -> None:
    assert answer(page.port, request_, ends=True)[:10] in (b"", b"HTTP/1.1 4")
    assert page.get("/")[0] == 200


def test_many_clients_at_once_get_their_own_answers(page: Page) -> None:
    paths = [*(f"/search.json?q=a+dog+number+{n}" for n in range(12)), *(["/media/1"] * 12)]
    alone = [page.get(path)[::2] for path in paths]
    with ThreadPoolExecutor(24) as clients:
        assert list(clients.map(lambda path: page.get(path)[::2], paths * 3)) == alone * 3


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("My.Host", 200),
        ("evil.example", 421), ("localhost.evil.example:8000", 421), ("[", 421), ("", 421),
    ],
)  # fmt: skip
def test_another_name_for_this_machine_is_refused(host: str, status: int, page: Page) -> None:
    assert page.get("/", Host=host)[0] == status
    assert page.get("/media/0", Host=host)[0] == status


def test_a_place_to_listen() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert url(taken) == f"http://127.0.0.1:{port}/"
        assert not is_public(taken)
        with pytest.raises(M2hfError, match=f"--port {port}: in use on 127.0.0.1; give another"):
            bind("127.0.0.1", port)
    with bind("0.0.0.0", 0) as everywhere:
        assert is_public(everywhere)
        assert url(everywhere).startswith("http://localhost:")
    with pytest.raises(M2hfError, match=r"--host 192\.0\.2\.1: can't listen there"):
        bind("192.0.2.1", 0)
    with pytest.raises(M2hfError, match=r"--host no\.such\.invalid: no such host"):
        bind("no.such.invalid", 0)


def test_the_command_serves_until_it_is_interrupted(corpus: Searchable) -> None:
    command = [str(Path(sys.executable).parent / "m2hf"), "app", *corpus.paths]
    options = ["--media", str(corpus.media), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout is not None
        assert serving.stderr is not None
        said = serving.stdout.readline()
        assert said.startswith("13 videos at http://localhost:")
        port = int(said.partition("localhost:")[2].partition("/")[0])
        assert Page(port, "").get("/search.json?q=a+dog")[0] == 200
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
        (warning,) = serving.stderr.read().splitlines()
    assert warning.startswith("m2hf: --host 0.0.0.0: anyone who can reach this machine")


_SEEN = """() => new Promise(done => {
    const player = document.querySelector('video');
    const now = () => done([player.currentTime, player.getAttribute('src')]);
    if (player.readyState >= 2 && !player.seeking) now();
    else player.addEventListener('seeked', now, {once: true});
})"""


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_in_a_browser(size: tuple[int, int], dark: bool, browser: "Browser", page: Page) -> None:
    with tab(browser, size, dark) as opened:
        there = opened.page
        there.goto(page.url)
        there.wait_for_function("document.activeElement.id == 'q'")
        there.keyboard.type("a dog")
        there.keyboard.press("Enter")
        there.wait_for_selector("article")
        assert there.locator("article").count() == 12
        assert there.get_by_label("What should the video show?").input_value() == "a dog"
        second, source = there.evaluate(_SEEN)
        assert second == pytest.approx(float(source.partition("#t=")[2]), abs=0.05)
        assert second > 0
        there.keyboard.press("Tab")
        assert opened.focused() == "input#q"
        there.keyboard.press("Tab")
        assert opened.focused() == "button"
        there.keyboard.press("Tab")
        assert opened.focused() == "video"
        assert opened.overflow() == 0
        there.goto(f"{page.url}?q=..")
        assert "the query is empty" in there.get_by_role("alert").inner_text()
        assert opened.overflow() == 0
        refused = [said for said in opened.complaints if "status of 400" not in said]
        assert not refused
        assert all(address.startswith(page.url) for address in opened.requests)
