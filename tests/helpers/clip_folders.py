"""Folders of small CLIPs as open_clip publishes them on the hub, with random weights."""

import json
from pathlib import Path
from typing import Any

from tokenizer_files import WRITERS, write_tokenizer

_VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
_TEXT = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
_SQUASHED = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
_OWN_TOKENIZER = {"vocab_size": 49408}
_COCA = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}

# style -> what its text tower differs in, the kind of its tokenizer, what else the model has.
STYLES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "clip": (_OWN_TOKENIZER, "", {}),
    "coca": (
        {**_OWN_TOKENIZER, "embed_cls": True, "output_tokens": True},
        "",
        {
            "custom_text": True,
            "vision_cfg": {**_VISION, **_COCA},
            "multimodal_cfg": {**_TEXT, **_OWN_TOKENIZER, "attn_pooler_heads": 2},
        },
    ),
    "siglip": (
        {"pool_type": "last", "no_causal_mask": True, "proj_bias": True}
        | {"tokenizer_kwargs": {"clean": "canonicalize"}},
        "siglip",
        {"custom_text": True, "init_logit_bias": -10},
    ),
    "clipa": (
        {
            "pool_type": "last",
            "no_causal_mask": True,
            "tokenizer_kwargs": {"strip_sep_token": True},
        },
        "bert",
        {},
    ),
    "worldwide": ({"pool_type": "eos", "eos_id": 2}, "xlm-roberta", {}),
    "clips": ({"pool_type": "last", "tokenizer_mode": "clips"}, "clips", {"custom_text": True}),
}


def write_clip_folder(folder: Path, style: str) -> Path:
    """open_clip_config.json, open_clip_model.safetensors, and the tokenizer; returns the folder."""
    import open_clip
    import safetensors.torch
    import torch

    text, kind, more = STYLES[style]
    folder.mkdir(parents=True)
    if kind:
        write_tokenizer(folder, kind)
        if "tokenizer_class" in WRITERS[kind][1]:  # open_clip's repositories have no config.json
            (folder / "config.json").unlink()
        text = {**text, "hf_tokenizer_name": f"someone/{style}"}
    model = {"embed_dim": 24, "vision_cfg": _VISION, "text_cfg": {**_TEXT, **text}, **more}
    config = {"model_cfg": model, "preprocess_cfg": {**_SQUASHED, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(3)
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    safetensors.torch.save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return folder
