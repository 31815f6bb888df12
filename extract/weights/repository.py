"""A repository of model files: one of the Hugging Face hub, or a folder laid out like one."""

from dataclasses import dataclass
from pathlib import Path

from m2hf.errors import ConfigError
from m2hf.extract.weights.weight import Weight, WeightFile

# The names that a tokenizer's vocabulary has, the one that transformers reads as it is first.
_VOCABULARIES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt")
_CONFIGS = ("config.json", "open_clip_config.json")
FOLDER = "folder"  # what stands for a folder in a fingerprint, which has the digests of its files


@dataclass(frozen=True)
class Repository:
    """Where the files of a model are."""

    name: str
    """ORG/NAME on the hub; of a folder, only for messages."""
    setting: str
    """The key of the recipe that names it, for messages."""
    folder: Path | None = None
    """The folder, if it is one."""
    get: str = ""
    """How else to get its files, for messages."""

    def weight(self, part: str, files: tuple[str, ...] = (), size_mb: int = 0) -> Weight:
        """The first of `files` that exists there, by default `part` itself, as the weight `part`.

        Raises ConfigError for a name that the hub can't have.
        """
        files = files or (part,)
        if self.folder is not None:
            paths = [self.folder / file for file in files]
            found = next((path for path in paths if path.is_file()), paths[0])
            return Weight(part, size_mb=0, explicit=str(found), get=self.get)
        try:
            return Weight.of_hub(
                f"{self.name}/{part}", self.name, files, size_mb=size_mb, get=self.get
            )
        except ValueError as error:
            raise ConfigError(
                f"{self.setting} = {self.name!r}: not the name of a repository of the Hugging Face "
                "hub, such as ORG/NAME"
            ) from error

    def config(self) -> Weight:
        """The configuration of the model, which also says whose tokenizer it has."""
        return self.weight("config.json", _CONFIGS)

    def tokenizer(self) -> tuple[Weight, ...]:
        """The three files of a tokenizer of transformers."""
        vocabulary = self.weight("tokenizer", _VOCABULARIES)
        return (vocabulary, self.weight("tokenizer_config.json"), self.config())


def by_name(files: tuple[WeightFile, ...]) -> dict[str, WeightFile]:
    """Files by the names that they have in the repository, for `checked.loading_folder`."""
    return {file.paths[0].name: file for file in files}


def folder_of(model: str) -> Path | None:
    """The folder that `model` is the path of; None for a name of the hub."""
    return Path(model).expanduser() if model.startswith(("/", "./", "../", "~")) else None
