"""Networks of other libraries, tiny and untrained, in folders as those libraries save them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

# Four stages of strides 4, 8, 16 and 32; or layers of patches.
_STAGES: dict[str, Any] = {"hidden_sizes": [5, 7, 11, 13], "depths": [1, 1, 1, 1]}
_WINDOWS: dict[str, Any] = {"depths": [2, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
_LAYERS: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}

TINY: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 6, "layer_type": "basic", **_STAGES},
    "convnext": _STAGES,
    "swin": {"embed_dim": 4, "image_size": 64, **_WINDOWS},
    "dinov2": {"patch_size": 14, "image_size": 56, **_LAYERS},
    "dinov2_with_registers": {"patch_size": 14, "image_size": 56, **_LAYERS},
    "dinov3_vit": {
        **{"patch_size": 16, "intermediate_size": 24, "num_register_tokens": 4},
        **{**_LAYERS, "num_attention_heads": 1},  # so long that angles have three frequencies
    },
}
# What is to be found: stride of the stage that is taken unasked, its first centre, its channels.
EXPECTED = {
    "resnet": (16, 0.0, 11),  # every layer pads by half its kernel: the first centre stays at 0
    "convnext": (16, 7.5, 11),  # patches: the centre of 16 pixels
    "swin": (16, 7.5, 16),
    "dinov2": (14, 6.5, 12),
    "dinov2_with_registers": (14, 6.5, 12),
    "dinov3_vit": (16, 7.5, 12),
}


def made(kind: str, seed: int = 0, **changes: Any) -> nn.Module:
    """Return the library's own network, as a backbone."""
    import transformers

    config = transformers.CONFIG_MAPPING[kind](**TINY[kind], **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = transformers.MODEL_FOR_BACKBONE_MAPPING[type(config)]._from_config(config).eval()
    with torch.no_grad():
        for name, each in network.named_parameters():
            if "lambda1" in name or "layer_scale" in name:
                each.fill_(0.5)  # untrained, layers of ConvNeXt pass on a millionth
    return network


def write(folder: Path, kind: str, seed: int = 0, **changes: Any) -> Path:
    """Save such a network; return the folder."""
    made(kind, seed, **changes).save_pretrained(folder)
    return folder


def say(folder: Path, name: str = "preprocessor_config.json", **changes: Any) -> None:
    """Change what a file of the folder says; None takes a word out."""
    path = folder / name
    said = json.loads(path.read_text()) if path.exists() else {}
    said = {key: value for key, value in (said | changes).items() if value is not None}
    path.write_text(json.dumps(said))
