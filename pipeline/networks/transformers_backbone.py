"""Backbones of the library transformers: ResNet, ConvNeXt, Swin, DINOv2, DINOv3 and others."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import InputError, RecipeError, SppError
from pipeline.networks import local_folder, weights
from pipeline.networks.backbone import FAILURES, Backbone
from pipeline.networks.preprocessing import Preprocessing

# What a folder's config.json says that is no part of the network: who saved it, what its classifier
# was for, which maps someone else asked for, and how to run it on another machine.
_APART = (
    *("_name_or_path", "_commit_hash", "architectures", "auto_map", "transformers_version"),
    *("dtype", "torch_dtype", "id2label", "label2id", "num_labels", "problem_type"),
    *("out_features", "out_indices", "output_attentions", "output_hidden_states", "return_dict"),
    *("_attn_implementation", "attn_implementation", "fusion_config", "transformers_weights"),
)
# Tensors that a folder may lack. Layer norms behind the chosen map are a detector's, and begin as
# plain normalisation where weights come from a classifier; masks are for training.
_SPARE = ("hidden_states_norms.", "mask_token")


LARGEST = 100_000  # channels, layers and pixels; what a file says is built before it is compared


class TransformersBackbone(Backbone):
    """A network that ``transformers`` has as a backbone, from a local folder.

    Patch tokens of DINOv2 and DINOv3 come as a map, without the class token and registers, and
    positions are interpolated, by the library. Stages are the library's: 0 is what comes before
    the first; those of DINO are its layers, all of one stride.

    Args:
        config: the folder's config.json, less what is no part of the network; found by ``load``.
        stage: see ``Backbone``.
    """

    def __init__(self, *, config: str = "", stage: int | None = None):
        super().__init__("transformers", config, stage)

    @staticmethod
    def described(folder: Path) -> str:
        """What is recorded of a folder's network: its config.json, less what is no part of it.

        Raises:
            InputError: there is no such folder or file, or it is damaged.
            RecipeError: the network is quantized.
        """
        known = local_folder.read_config(folder)
        if "quantization_config" in known:
            raise RecipeError(
                f"{folder} holds a quantized network: give one in floating point, and set "
                'network.precision = "bfloat16" for a faster one'
            )
        own = {name: value for name, value in known.items() if name not in _APART}
        if (large := max(_numbers(own), default=0)) > LARGEST:
            raise InputError(
                f"{folder / local_folder.CONFIG} has the number {large!s:.20}, and {LARGEST:,} is "
                "more than any network has of anything: fetch it again"
            )
        return json.dumps(own, sort_keys=True)

    @staticmethod
    def preprocessing_in(folder: Path) -> Preprocessing | None:
        """What the folder says that the weights expect of their pixels, if it does.

        Raises:
            InputError: what it says cannot be understood.
        """
        return local_folder.read_preprocessing(folder)

    @property
    def title(self) -> str:
        """The library's name for this kind of network."""
        return str(json.loads(self.options["config"])["model_type"])

    @property
    def stage_names(self) -> Sequence[str]:
        """The library's."""
        return self._config().stage_names

    def build(self, stage: int | None) -> nn.Module:
        """Return the library's backbone, untrained."""
        config = self._config(stage)
        try:
            with _quiet():
                return _backbones()[type(config)]._from_config(config)
        except (SppError, MemoryError, ImportError):
            raise
        except Exception as error:  # the library checks few of the numbers that it is given
            raise InputError(f"config.json describes no network: {error}") from error

    def maps(self, network: nn.Module, images: Tensor) -> Sequence[Tensor]:
        """Return the maps that were asked for."""
        return network(images).feature_maps

    def take(self, state: Mapping[str, Tensor], source: str) -> None:
        """Fill the network; what a folder holds beside it, such as a classifier, is left.

        Raises:
            InputError: tensors are missing, of another shape, or not finite.
        """
        config = self._config(self.stage)
        kind = _backbones()[type(config)]
        given = {"config": config, "state_dict": dict(state), "dtype": torch.float32}
        try:
            # No name and no file: tensors are ours already, and nothing can be looked up.
            with _quiet(), torch.random.fork_rng(devices=[]):
                filled, said = kind.from_pretrained(None, **given, output_loading_info=True)
        except FAILURES as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{source} does not fit {self.title}: {reason}") from error
        missing = sorted(name for name in said["missing_keys"] if not _spare(name))
        if missing:
            raise InputError(
                f"{source} lacks {len(missing)} tensors of {self.title} ({', '.join(missing[:5])}"
                f"{', ...' if len(missing) > 5 else ''}): its config.json is of another network, "
                "or it was cut short"
            )
        for name, tensor in filled.state_dict().items():
            if tensor.is_floating_point():
                weights.require_finite(name, tensor, source)
        self.backbone = filled.eval()

    def _config(self, stage: int | None = None) -> Any:
        """The library's description, asking for one map or for all."""
        known = self._known()
        kind = known.pop("model_type")
        try:
            config = _library().CONFIG_MAPPING[kind].from_dict(known)
            names = list(config.stage_names)
            config.out_features = names if stage is None else [names[stage]]
        except (SppError, MemoryError, ImportError):
            raise
        except Exception as error:  # the library checks few of the values that it is given
            raise InputError(f"config.json does not describe a {kind}: {error}") from error
        if hasattr(config, "reshape_hidden_states"):
            config.reshape_hidden_states = True  # as a map, not as tokens
        return config

    def _known(self) -> dict[str, Any]:
        if not self.options["config"]:
            raise RecipeError(
                "transformers has no network of its own: set network.weights to a local folder "
                f"with {local_folder.CONFIG} and {local_folder.WEIGHTS}"
            )
        known = json.loads(self.options["config"])
        kind = known.get("model_type")
        if kind == "timm_backbone" or not isinstance(kind, str):
            raise RecipeError(
                f"config.json has model_type {kind!r}, which is no network of transformers: for "
                'one of timm set network.name = "timm"'
            )
        configs = _library().CONFIG_MAPPING
        if kind not in configs or configs[kind] not in _backbones():
            known = ", ".join(sorted(each.model_type for each in _backbones()))
            raise RecipeError(f"transformers has no backbone for {kind!r}: choose among {known}")
        return known


def _numbers(content: Any) -> Iterator[int]:
    """Yield all whole numbers of a JSON file, but those of words."""
    pending = [content]
    while pending:
        each = pending.pop()
        if isinstance(each, int):
            yield each
        elif isinstance(each, dict):
            pending += [v for k, v in each.items() if k != "vocab_size" and "token_id" not in k]
        elif isinstance(each, list):
            pending += each


def _spare(name: str) -> bool:
    return name.startswith(_SPARE[0]) or name.endswith(_SPARE[1])


def _library() -> ModuleType:
    # Here, not above: importing it takes seconds, and most networks are our own.
    try:
        import transformers
    except ImportError as error:
        raise RecipeError(
            f"the library transformers cannot be imported ({error}): install this project with "
            "its extra, pip install 'sppnet[backbones]', on every machine"
        ) from error
    return transformers


def _backbones() -> Any:
    """The library's backbones by the class of their description."""
    return _library().MODEL_FOR_BACKBONE_MAPPING


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no lists of what was left out: what is wrong is said as an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
