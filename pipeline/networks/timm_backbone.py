"""Backbones of the library timm, from a local folder in the layout of the Hugging Face hub."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import InputError, RecipeError
from pipeline.networks import local_folder, weights
from pipeline.networks.backbone import FAILURES, Backbone
from pipeline.networks.preprocessing import Preprocessing

# What config.json says of the network itself; the rest is about its training and its name.
_OWN = ("architecture", "num_classes", "model_args")
# What of timm's own arguments would look for weights elsewhere, on the network or on the disk.
_RESERVED = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
}
# How a network is told to take images of any size, where it is to be told.
_ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmBackbone(Backbone):
    """A network that ``timm`` makes with ``features_only``, from a local folder.

    Args:
        config: what the folder's config.json says of the network; found by ``load``.
        stage: see ``Backbone``; counted among the maps that timm gives unasked, which of
            transformers such as ViT are the last three layers.
    """

    def __init__(self, *, config: str = "", stage: int | None = None):
        self._offered: tuple[tuple[int, str], ...] = ()  # timm's number and name of each map
        super().__init__("timm", config, stage)

    @staticmethod
    def described(folder: Path) -> str:
        """What is recorded of a folder's network.

        Raises:
            InputError: there is no such folder or file, or it is damaged.
            RecipeError: it is not in timm's layout.
        """
        known = local_folder.read_config(folder)
        if "architecture" not in known:
            raise RecipeError(
                f"{folder / local_folder.CONFIG} names no architecture of timm"
                + (': set network.name = "transformers"' if "model_type" in known else "")
            )
        asked = known.get("model_args", {})
        reserved = sorted(_RESERVED & asked.keys()) if isinstance(asked, dict) else ["no table"]
        if reserved:
            raise InputError(
                f"{folder / local_folder.CONFIG}: model_args has {', '.join(reserved)}, which says "
                "where weights come from, and those of a folder are its own: take it out"
            )
        return json.dumps({name: known[name] for name in _OWN if name in known}, sort_keys=True)

    @staticmethod
    def preprocessing_in(folder: Path) -> Preprocessing | None:
        """What the folder says that the weights expect of their pixels, if it does.

        Raises:
            InputError: what it says cannot be understood.
        """
        known = local_folder.read_config(folder)
        known = known.get("pretrained_cfg", known)
        if "mean" not in known or "std" not in known:
            return None
        try:
            mean, std = (tuple(map(float, known[name])) for name in ("mean", "std"))
            return Preprocessing("RGB", 1.0, mean, std)  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError, InputError) as error:
            raise InputError(
                f"{folder / local_folder.CONFIG} does not say what is done to pixels ({error}): "
                "set network.preprocessing"
            ) from error

    @property
    def title(self) -> str:
        """Timm's name for the architecture."""
        return str(json.loads(self.options["config"])["architecture"])

    @property
    def stage_names(self) -> Sequence[str]:
        """Timm's."""
        return [name for _, name in self._offered]

    def build(self, stage: int | None) -> nn.Module:
        """Return the library's network, untrained."""
        made = self._create(stage)
        if stage is None:
            info: Any = made.feature_info
            self._offered = tuple(zip(info.out_indices, info.module_name(), strict=True))
        return made

    def maps(self, network: nn.Module, images: Tensor) -> Sequence[Tensor]:
        """Return the maps that were asked for, channels first."""
        found = network(images)
        if str(getattr(network, "output_fmt", "")).endswith("NHWC"):  # Swin's
            return [each.permute(0, 3, 1, 2) for each in found]
        return found

    def take(self, state: Mapping[str, Tensor], source: str) -> None:
        """Fill the network.

        Raises:
            InputError: tensors are missing, unexpected, of another shape, or not finite.
        """
        for name, tensor in state.items():
            if tensor.is_floating_point():
                weights.require_finite(name, tensor, source)
        # Given as tensors, so that nothing can be looked up; the classifier stays where it is, for
        # timm no longer asks for every tensor once it has thrown that away.
        given = {"state_dict": dict(state), "classifier": None, "custom_load": False, "source": ""}
        asked = {"pretrained": True, "pretrained_cfg_overlay": given}
        filled, again = (self._seeded(seed, source, asked) for seed in (0, 1))
        # Of some architectures timm asks for no tensor in particular, and leaves to chance what it
        # does not find.
        other = again.state_dict()
        for name, tensor in filled.state_dict().items():
            if not torch.equal(tensor, other[name]):
                raise InputError(
                    f"{source} lacks {name} of timm's {self.title}: its config.json is of another "
                    "network, or it was cut short"
                )
        self.backbone = filled

    def _seeded(self, seed: int, source: str, asked: dict[str, Any]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._create(self.stage, source, **asked).eval()

    def _create(self, stage: int | None, source: str = "config.json", **weighted: Any) -> nn.Module:
        library, known = _library(), self._known()
        told = {k: v for k, v in known.get("model_args", {}).items() if k not in _RESERVED}
        asked: dict[str, Any] = {**told, "pretrained": False, "features_only": True, **weighted}
        if "num_classes" in known:
            asked["num_classes"] = known["num_classes"]
        if stage is not None:
            asked["out_indices"] = (self._offered[stage][0],)
        for more in _ANY_SIZE:
            try:
                with _quiet():
                    return library.create_model(known["architecture"], **{**more, **asked})
            except TypeError as error:
                if not more or next(iter(more)) not in str(error):
                    raise self._unfit(source, error) from error
            except FAILURES as error:
                raise self._unfit(source, error) from error
        raise AssertionError("the last of the ways to ask is none at all")

    def _unfit(self, source: str, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:300]
        return InputError(f"{source} does not fit timm's {self.title}: {reason}")

    def _known(self) -> dict[str, Any]:
        if not self.options["config"]:
            raise RecipeError(
                "timm has no network of its own: set network.weights to a local folder with "
                f"{local_folder.CONFIG} and {local_folder.WEIGHTS}"
            )
        known = json.loads(self.options["config"])
        if not _library().is_model(known["architecture"]):
            raise RecipeError(f"this timm knows no architecture {known['architecture']!r}")
        return known


@contextmanager
def _quiet() -> Iterator[None]:
    """No list of what was left out, such as a classifier: what is wrong is said as an error."""
    log = logging.getLogger("timm")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _library() -> ModuleType:
    # Here, not above: it takes seconds, and does not import where torchvision does not.
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        raise RecipeError(
            f"the library timm cannot be imported ({error}): install this project with its extra, "
            "pip install 'sppnet[timm]', and a torchvision built for the torch that is there, on "
            "every machine"
        ) from error
    return timm
