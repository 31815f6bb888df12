"""Small sentence encoders with random weights, as sentence-transformers saves them."""

import string
from collections.abc import Mapping
from pathlib import Path

from m2hf.extract.networks.compat import import_torchvision

WORDS = ("cat", "dog", "car", "sign", "speed", "limit", "query", "passage", ":", ".")
WIDTH, LIMIT = 32, 24


def save_sentence_encoder(
    folder: Path,
    pooling: str = "mean",
    dense: int = 0,
    prompts: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write a BERT of two layers that reads LIMIT tokens; dense: width of a Dense module, 0 for
    none."""
    import_torchvision()
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    bare = folder / "bare"
    bare.mkdir(parents=True)
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *WORDS]
    (bare / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(str(bare / "vocab.txt")).save_pretrained(bare)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
        BertModel(config).save_pretrained(bare)
        modules = [
            Transformer(str(bare), max_seq_length=LIMIT),
            Pooling(WIDTH, pooling_mode=pooling),
            *([Dense(WIDTH, dense)] if dense else []),
            Normalize(),
        ]
        encoder = SentenceTransformer(modules=modules, prompts=dict(prompts or {}), device="cpu")
    encoder.save(str(folder / "saved"), create_model_card=False)
    return folder / "saved"
