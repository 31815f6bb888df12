"""A model of transformers in a repository of the hub or a folder: files, configuration, network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.untrained import seeded
from m2hf.extract.weights.checked import (
    loading,
    loading_folder,
    read_object,
    require_sizes,
    require_tensors,
)
from m2hf.extract.weights.repository import Repository, by_name
from m2hf.extract.weights.weight import Weight, WeightFile
from m2hf.plain_data import shown

Files = tuple[WeightFile, ...]  # in the order of `needs`; empty for random weights
_TENSORS = ("model.safetensors", "pytorch_model.bin")
_PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")
TRANSFORMER: Mapping[str, int] = {
    "hidden_size": 1 << 14,
    "num_hidden_layers": 1 << 8,
    "num_attention_heads": 1 << 10,
    "intermediate_size": 1 << 16,
}
"""Limits that all transformers have, for Architecture.most."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """An architecture of transformers."""

    model_type: str
    """In config.json."""
    title: str
    """For messages: "an AST"."""
    config: str
    """transformers' class of the configuration."""
    network: str
    """transformers' class of the network."""
    untrained: Mapping[str, Mapping[str, Any]]
    """Names that it has with random weights: what differs from the configuration's defaults."""
    most: Mapping[str, int]
    """Numbers of the configuration that become layers and arrays, and the most that is built."""
    part: str = ""
    """The section of the configuration that the limits are for, if not the whole."""

    def configuration(self, model: str, files: Files) -> Any:
        """Of the weights, or of `model` with random weights where there are no files.

        Raises ResourceError for a damaged file.
        """
        import transformers

        made: Any = getattr(transformers, self.config)
        if not files:
            return made(**self.untrained[model])
        values = read_object(files[1])
        section = values.get(self.part, {}) if self.part else values
        if not isinstance(section, dict):
            raise ResourceError(f"weights {files[1].paths[0]}: {self.part} isn't an object")
        require_sizes(files[1], section, self.most)
        with loading(files[1], f"the configuration of {self.title}"):
            return made.from_dict(values)

    def load(self, config: Any, files: Files, seed: int, device: str) -> Any:
        """The network on `device`; raises ResourceError where the files are damaged or don't
        fit."""
        import torch

        import_torchvision()  # transformers imports it where it is installed
        import transformers
        from transformers.utils import logging

        network: Any = getattr(transformers, self.network)
        if not files:
            with seeded(seed):
                return network(config).eval().to(device)
        logging.set_verbosity_error()  # no warning of tensors that this network doesn't use
        logging.disable_progress_bar()
        kind = f"{self.title} checkpoint that fits its config.json"
        with loading_folder(by_name(files), kind) as folder:
            model, info = network.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=files[0].paths[0].suffix == ".safetensors",
                weights_only=True,
                output_loading_info=True,
            )
            # transformers draws a missing tensor at random and only logs a warning.
            require_tensors([*info["missing_keys"], *info["mismatched_keys"]])
        return model.eval().to(device)


def tensors(repository: Repository, size_mb: int) -> Weight:
    """The weights, as safetensors if they are published so."""
    return repository.weight(_TENSORS[0], _TENSORS, size_mb)


def needs(repository: Repository, size_mb: int) -> tuple[Weight, ...]:
    """The weights, the configuration and that of the preprocessing."""
    return (
        tensors(repository, size_mb),
        repository.config(),
        repository.weight(_PREPROCESSORS[0], _PREPROCESSORS),
    )


def choose(table: tuple[Architecture, ...], model: str, files: Files, setting: str) -> Architecture:
    """The architecture of the files, or of the name `model` where there are none.

    Raises ResourceError for files of another kind of model, ConfigError for a name that `table`
    can't draw random weights for.
    """
    if not files:
        for one in table:
            if model in one.untrained:
                return one
        names = ", ".join(name for one in table for name in one.untrained)
        raise ConfigError(
            f"{setting}.model = {model!r}: with random weights, expected one of {names}"
        )
    found = read_object(files[1]).get("model_type")
    for one in table:
        if found == one.model_type:
            return one
    known = ", ".join(repr(one.model_type) for one in table)
    raise ResourceError(
        f"weights {files[1].paths[0]}: of a model of type {shown(found)}, expected one of {known}"
    )
