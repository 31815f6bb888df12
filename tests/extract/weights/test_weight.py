"""Weights are located in a fixed order, downloaded whole or not at all, and match their digest."""

import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from weights_server import Served, serving

from m2hf.errors import ResourceError, SchemaError, UsageError
from m2hf.extract.weights import download
from m2hf.extract.weights.download import Download
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder
from m2hf.extract.weights.sources import HubSource, RemoteFile, UrlSource, ZipSource
from m2hf.extract.weights.weight import PackagedFile, Weight

DATA = bytes(range(256)) * 1200  # 300 kB
SHA256 = hashlib.sha256(DATA).hexdigest()
REPOSITORY = "someone/a-model"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WAIT_S", 0.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFolder:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "weights"))
    return WeightsFolder.default()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture
def hub(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    template = served.root + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return served


def fetch(served: Served, target: Path, how: str, sha256: str = SHA256) -> list[tuple[int, int]]:
    """Download DATA from a server that behaves like `how`; the progress that was reported."""
    served.files["/w.bin"], served.behaviour["/w.bin"] = DATA, how
    progress: list[tuple[int, int]] = []
    remote = UrlSource(f"{served.root}/w.bin", sha256).resolve()
    Download(remote, target).run(lambda have, total: progress.append((have, total or 0)))
    return progress


# One download


def test_only_https_but_for_this_machine_and_the_users_own_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    for url in ("https://a.invalid/w", "http://127.0.0.1:1/w", "http://mirror.invalid/w"):
        download._check_address(url)
    for url in ("http://a.invalid/w", "ftp://a.invalid/w", "http://mirror.invalid.b/w", "file:/w"):
        with pytest.raises(ResourceError, match="expected an https address"):
            Download(RemoteFile(url, "w"), tmp_path / "w").run(lambda *_: None)
        with pytest.raises(ResourceError, match="expected an https address"):
            download._Redirects().redirect_request(None, None, 302, "", {}, url)


@pytest.mark.parametrize("how", ["range", "plain", "breaks", "busy-once"])
@pytest.mark.parametrize("have", [0, 100_000])
def test_what_comes_is_whole_whatever_was_there(
    served: Served, tmp_path: Path, how: str, have: int
) -> None:
    target = tmp_path / "w.bin"
    if have:
        Path(f"{target}.part").write_bytes(DATA[:have])
    progress = fetch(served, target, how)
    assert target.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["w.bin"]
    assert progress[-1] == (len(DATA), len(DATA))
    assert served.ranges()[0] == (f"bytes={have}-" if have else "")
    if how == "breaks":
        assert len(served.ranges()) > 2


def test_a_server_without_range_starts_anew(served: Served, tmp_path: Path) -> None:
    (tmp_path / "w.bin.part").write_bytes(b"x" * 299_999)  # of another file, and nearly as long
    progress = fetch(served, tmp_path / "w.bin", "plain")
    assert progress[0][0] < 299_999
    assert (tmp_path / "w.bin").read_bytes() == DATA


def test_a_part_that_is_all_of_it_counts_and_a_longer_one_is_begun_again(
    served: Served, tmp_path: Path
) -> None:
    for part in (DATA, DATA + b"more"):
        (tmp_path / "w.bin.part").write_bytes(part)
        fetch(served, tmp_path / "w.bin", "range")
        assert (tmp_path / "w.bin").read_bytes() == DATA
    assert served.ranges() == ["bytes=307200-", "bytes=307204-", ""]


def test_wrong_bytes_are_deleted(served: Served, tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"sha256 is \w+, expected 0+; the download was deleted"
    ):
        fetch(served, tmp_path / "w.bin", "range", sha256="0" * 64)
    assert not list(tmp_path.iterdir())
    other = Download(RemoteFile(f"{served.root}/w.bin", "w.bin", size=5), tmp_path / "w.bin")
    with pytest.raises(ResourceError, match="307200 bytes, expected 5; it is a different file"):
        other.run(lambda *_: None)


@pytest.mark.parametrize("how", ["hangs-up", "elsewhere"])
def test_a_server_that_never_finishes_is_given_up_and_the_part_kept(
    served: Served, tmp_path: Path, how: str
) -> None:
    (tmp_path / "w.bin.part").write_bytes(DATA[:5000])
    with pytest.raises(ResourceError, match="given up after 5 attempts, 5000 bytes are kept"):
        fetch(served, tmp_path / "w.bin", how)
    assert len(served.ranges()) == 5
    assert (tmp_path / "w.bin.part").read_bytes() == DATA[:5000]


def test_a_refusal_and_no_network_are_one_line(served: Served, tmp_path: Path) -> None:
    def refused(url: str) -> str:
        with pytest.raises(ResourceError) as raised:
            Download(RemoteFile(url, "w.bin"), tmp_path / "w.bin").run(lambda *_: None)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "the server answered 404 Not Found" in refused(f"{served.root}/none")
    assert "no network, or no server of that name" in refused("https://nowhere.invalid/w.bin")
    assert "the connection broke: " in refused("http://127.0.0.1:1/w.bin")
    assert "expected an https address" in refused((tmp_path / "w.bin").as_uri())


# The folder


def test_a_weight_is_looked_for_in_one_order(
    folder: WeightsFolder, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {name: tmp_path / name for name in ("explicit", "package", "cache")}
    for name, path in places.items():
        path.write_bytes(name.encode())
    monkeypatch.setattr(
        PackagedFile,
        "find",
        lambda self: (places["package"],) if places["package"].exists() else None,
    )
    served.files["/w.bin"] = DATA
    source = UrlSource(f"{served.root}/w.bin", SHA256[:8])
    weight = Weight("a/b", 1, packaged=PackagedFile(()), cached=places["cache"], source=source)
    explicit = Weight("a/b", 1, explicit=str(places["explicit"]), source=source)
    weight.pull(lambda *_: None)
    assert explicit.locate().place == "explicit"
    assert (weight.locate().place, weight.locate().sha256) == ("folder", SHA256)
    kept = folder.index()["a/b"]
    assert (kept.file, kept.bytes, kept.url) == ("a/b/w.bin", len(DATA), f"{served.root}/w.bin")
    folder.path(kept).unlink()
    assert weight.locate().place == "package"
    places["package"].unlink()
    assert weight.locate().place == "cache"
    places["cache"].unlink()
    with pytest.raises(ResourceError, match=r"a/b \(1 MB\) are not on this machine; run `m2hf"):
        weight.locate()


def test_a_folder_that_was_copied_is_checked_by_its_index(
    folder: WeightsFolder, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.files["/w.bin"] = DATA
    weight = Weight("a/b", 1, source=UrlSource(f"{served.root}/w.bin", ""))
    weight.pull(lambda *_: None)
    elsewhere = folder.root.rename(tmp_path / "copied")
    monkeypatch.setenv(VARIABLE, str(elsewhere))
    copied = WeightsFolder.default()
    kept = copied.index()["a/b"]
    assert weight.locate().paths == (elsewhere / "a" / "b" / "w.bin",)
    assert copied.damage(kept) == ""
    for data in (DATA[:-1], DATA[:-1] + b"x"):
        copied.path(kept).write_bytes(data)
        assert copied.damage(kept)
        with pytest.raises(ResourceError, match="it is damaged or a different file"):
            weight.locate()
    assert weight.pull(lambda *_: None).sha256 == SHA256  # again, in place of the damaged one


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"schema": true, "weights": {}}',
        '{"schema": 1, "weights": {"a": 1}}',
        '{"schema": 1, "weights": [1]}',
        '{"schema": 2, "weights": {}}',
        '{"schema": 1, "weights": {"a": {"file": "a"}}}',
        *(
            json.dumps({"schema": 1, "weights": {"a": {**good, **change}}})
            for good in [{"file": "a", "bytes": 1, "sha256": "0" * 64, "url": ""}]
            for change in [
                {"file": "../a"},
                {"file": "/a"},
                {"file": ""},
                {"sha256": "0"},
                {"bytes": True},
                {"file": "x" * 300},
                {"bytes": -1},
                {"file": "a\0b"},
                {"url": None},
                {"more": 1},
            ]
        ),
    ],
)
def test_an_index_of_another_kind_is_refused(folder: WeightsFolder, index: str) -> None:
    folder.root.mkdir()
    (folder.root / "index.json").write_text(index, encoding="utf-8")
    with pytest.raises(SchemaError, match="not an index of m2hf's weights") as caught:
        folder.find("a")
    assert "\n" not in str(caught.value)


def test_one_writer_at_a_time(folder: WeightsFolder) -> None:
    with folder.writing(), (folder.root / ".lock").open("a") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(ResourceError, match="another `m2hf weights pull`"), folder.writing():
            pass


def test_a_name_is_never_a_path_of_its_own_choosing(folder: WeightsFolder) -> None:
    for name in ("../../x", "/etc/x", "a/../x", "a\\b", ""):
        assert folder.root in folder.target(name, "..").parents
        assert ".." not in folder.target(name, "..").parts


def test_a_worker_takes_the_drivers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    home = WeightsFolder(tmp_path / ".cache" / "m2hf" / "weights")
    drivers, own = WeightsFolder(tmp_path / "drivers"), WeightsFolder(tmp_path / "own")
    drivers.adopt()
    assert WeightsFolder.default() == home  # the driver's doesn't exist here
    drivers.root.mkdir()
    drivers.adopt()
    assert WeightsFolder.default() == drivers
    monkeypatch.setenv(VARIABLE, str(own.root))
    assert WeightsFolder.default() == own
    drivers.adopt()
    monkeypatch.delenv(VARIABLE)
    assert WeightsFolder.default() == home


# Sources


def test_the_hub_names_digest_size_and_commit(hub: Served, folder: WeightsFolder) -> None:
    hub.on_hub(REPOSITORY, "second.bin", DATA)
    weight = Weight(
        "clip/tag", 1, source=HubSource(REPOSITORY, ("first.safetensors", "second.bin"))
    )
    assert weight.pull(lambda *_: None).sha256 == SHA256
    assert folder.index()["clip/tag"].url.endswith(f"/{'c' * 40}/second.bin")
    small = Weight(f"{REPOSITORY}/config.json", 0, source=HubSource(REPOSITORY, ("config.json",)))
    path = hub.on_hub(REPOSITORY, "config.json", b"{}", large=False)
    assert small.pull(lambda *_: None).paths == (folder.root / REPOSITORY / "config.json",)
    hub.files[path] = b"[]"
    with pytest.raises(ResourceError, match="its git blob id is not"):
        small.pull(lambda *_: None)
    with pytest.raises(ResourceError, match="the hub repository has no x or y"):
        HubSource(REPOSITORY, ("x", "y")).resolve()
    hub.files[f"/{REPOSITORY}/resolve/main/config.json"] = b"weak"
    with pytest.raises(ResourceError, match="the hub gives no digest"):
        small.pull(lambda *_: None)


def test_what_of_a_digest_is_not_pinned() -> None:
    assert UrlSource("https://a.b/c-12345678.pth", "12345678").unpinned == (
        "its sha256 is not pinned but for the first 8 of 64 digits"
    )
    assert UrlSource("https://a.b/c", "0" * 64).unpinned == ""
    assert ZipSource("https://a.b/c.zip", "c", "0" * 64).unpinned == ""
    assert "not pinned" in HubSource(REPOSITORY, ("x",)).unpinned
    partly, whole = (Weight("w", 1, cached_sha256="0" * count) for count in (8, 64))
    assert (partly.is_pinned, whole.is_pinned) == (False, True)


def test_without_a_network_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:1/{repo_id}/{revision}/{filename}",
    )
    with pytest.raises(ResourceError, match=r"from the hub, which needs a network: .") as raised:
        HubSource(REPOSITORY, ("x",)).resolve()
    assert "\n" not in str(raised.value)


def test_a_zip_gives_its_member_if_it_is_the_known_one(
    served: Served, folder: WeightsFolder
) -> None:
    for member, data, message in (
        ("w.pth", DATA, ""),
        ("w.pth", DATA[1:], "its member w.pth has sha256"),
        ("other.pth", DATA, "not a zip file that contains w.pth: "),
        ("", b"<html>", "not a zip file that contains w.pth: File is not a zip file"),
    ):
        packed = io.BytesIO()
        if member:
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(member, data)
        served.files["/w.zip"] = packed.getvalue() or data
        weight = Weight("w.pth", 1, source=ZipSource(f"{served.root}/w.zip", "w.pth", SHA256))
        if message:
            with pytest.raises(ResourceError, match=message):
                weight.pull(lambda *_: None)
        else:
            assert weight.pull(lambda *_: None).sha256 == SHA256
        assert sorted(path.name for path in (folder.root / "w.pth").iterdir()) == ["w.pth"]


def test_urls_are_those_in_the_libraries() -> None:
    from m2hf.extract.asr import Asr
    from m2hf.extract.motion import Motion
    from m2hf.extract.networks.compat import import_torchvision
    from m2hf.extract.ocr import Ocr

    import_torchvision()
    from easyocr.config import detection_models, recognition_models
    from torchvision.models import get_model_weights

    ocr = [weight.source for weight in Ocr().needs()]
    known = [detection_models["craft"], recognition_models["gen2"]["english_g2"]]
    assert [(s.url, s.member) for s in ocr if isinstance(s, ZipSource)] == [
        (entry["url"], entry["filename"]) for entry in known
    ]
    for name in ("r2plus1d_18", "s3d"):
        (motion,) = Motion.model_validate({"model": name}).needs()
        assert isinstance(motion.source, UrlSource)
        assert motion.source.url == get_model_weights(name).KINETICS400_V1.url
    asr, _ = Asr(model="tiny.en").needs()
    assert isinstance(asr.source, UrlSource)
    assert len(asr.source.sha256) == 64
    assert asr.source.url.endswith(f"{asr.source.sha256}/tiny.en.pt")
    large, _ = Asr(model="large").needs()
    assert large.cached is not None
    assert large.cached.name == "large-v3.pt"


# Changed files


def test_a_file_that_changes_is_an_error_and_a_touched_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(DATA)
    file = Weight("w", 1, explicit=str(path)).locate()
    os.utime(path)
    file.confirm()
    assert file.read() == DATA
    stat = path.stat()
    path.write_bytes(DATA[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a tool that hides it would
    for ask in (file.confirm, file.read):
        with pytest.raises(ResourceError, match="was changed while it was in use"):
            ask()
    path.unlink()
    with pytest.raises(ResourceError, match="was changed while it was in use"):
        file.confirm()


# The command


CLIP = ("--only", "clip", "--set", "extract.encoder.pretrained=laion2b_s34b_b79k")


def test_a_killed_pull_is_resumed(
    served: Served, folder: WeightsFolder, m2hf: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DATA * 20  # 6 MB
    path = served.on_hub(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors", data
    )
    served.behaviour[path] = "slow"
    monkeypatch.setenv("HF_ENDPOINT", served.root)
    monkeypatch.setenv("HF_HOME", str(folder.root.parent / "hf"))
    # An earlier search in this process has set it.
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    part = folder.root / "ViT-B-32" / "laion2b_s34b_b79k" / "open_clip_model.safetensors.part"
    command = [str(Path(sys.executable).parent / "m2hf"), "weights", "pull", *CLIP]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as pulling:
        deadline = time.monotonic() + 120
        while not (part.is_file() and part.stat().st_size > 1_000_000):
            assert pulling.poll() is None, pulling.stderr and pulling.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pulling.send_signal(signal.SIGKILL)
    have = part.stat().st_size
    served.behaviour.clear()
    done = m2hf("weights", "pull", *CLIP)
    assert done.returncode == 0, done.stderr
    said = (
        "its sha256 is not pinned: it is what the hub gives for `main` on that day; the one above"
    )
    assert f"b79k: {said}" in done.stdout
    assert served.ranges() == ["", f"bytes={have}-"]
    assert "ViT-B-32/laion2b_s34b_b79k: 6.1 MB of 6.1 MB" in done.stderr
    kept = folder.index()["ViT-B-32/laion2b_s34b_b79k"]
    assert kept.sha256 == hashlib.sha256(data).hexdigest()
    folder.path(kept).write_bytes(data[:-1])
    checked = m2hf("weights", "check", *CLIP)
    assert checked.returncode == 3
    assert "it is damaged or a different file" in checked.stdout
    assert "1 weight files checked, 1 wrong" in checked.stdout


def test_list_and_check_print_state_and_place(
    folder: WeightsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from m2hf.cli.weights import app

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "clip.safetensors").write_bytes(DATA)
    only = ["--only", "clip,motion", "--set", f"extract.encoder.pretrained={tmp_path}/clip.saf"]
    only[-1] += "etensors"
    listed = json.loads(CliRunner().invoke(app, ["list", "--json", *only]).stdout)
    assert listed["folder"] == str(folder.root)
    clip, motion = listed["weights"]
    assert (clip["state"], clip["sha256"], clip["for"]) == ("found", SHA256, ["clip"])
    assert (motion["state"], motion["pinned"]) == ("missing", "91a641e6")
    shown = CliRunner().invoke(app, ["list", *only]).stdout
    assert "r2plus1d_18/kinetics400 (for motion; 126.0 MB): missing; sha256 91a641e6" in shown
    checked = CliRunner().invoke(app, ["check", *only])
    assert checked.exit_code == 3
    assert "2 weight files checked, 1 wrong" in checked.stdout
    folder.root.mkdir()
    (folder.root / "x").write_bytes(DATA)
    folder.record("x", folder.root / "x", SHA256, "")
    (folder.root / "x").write_bytes(b"")
    checked = CliRunner().invoke(app, ["check", "--only", "logmel"])
    assert checked.exit_code == 3
    assert "weights x: " in checked.stdout
    none = CliRunner().invoke(app, ["list", "--only", "logmel"])
    assert none.stdout.startswith("no weights are needed")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), UsageError, "^permission denied: "),
        (OSError(errno.EIO, "Input/output error"), ResourceError, r"w\.bin can't be read \(Input"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_line(
    error: OSError,
    expected: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(DATA)

    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr("m2hf.extract.weights.weight.digest_of", refuse)
    with pytest.raises(expected, match=message):
        Weight("w", 1, explicit=str(path)).locate()
