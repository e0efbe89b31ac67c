"""What networks say of whole images: which sizes they take, and class scores."""

from jaxtyping import Float
from torch import Tensor

from pipeline.errors import InputError, RecipeError
from pipeline.networks.network import Network
from pipeline.networks.zf5 import PlainZF5


def class_scores(
    network: Network, images: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch classes"]:
    """Class scores: those of fc layers that were added, or else of the architecture's own.

    Raises:
        RecipeError: the weights came without a classifier.
    """
    if network.added_head is not None:
        return Network.logits(network, images)
    return network.logits(images)


def takes_any_size(network: Network) -> bool:
    """Whether images of any size and shape get class scores: there is no fixed-size fc layer."""
    return not isinstance(network, PlainZF5)


def require_side(network: Network, side_px: int) -> None:
    """Check that a network takes square images of such a size.

    Raises:
        RecipeError: they are too small for a single cell, or not of its one size.
    """
    if isinstance(network, PlainZF5):
        side = network.map_side
        if _map_size(network, side_px) != (side, side):
            raise RecipeError(
                f"plain_zf5 takes images of {network.image_px}x{network.image_px} px alone, not "
                f"{side_px}x{side_px}: its fc6 reads {side // 2}x{side // 2} bins of a "
                f"{side}x{side} map; set sides_px = [{network.image_px}], network.image_px, or use "
                "zf5, which takes any"
            )
    elif _map_size(network, side_px) is None:
        least = side_px + 1
        while _map_size(network, least) is None:
            least += 1
        raise RecipeError(
            f"{network.name} has no cell left in its feature map for images of {side_px}x{side_px} "
            f"px: the smallest it takes are {least}x{least}"
        )


def _map_size(network: Network, side_px: int) -> tuple[int, int] | None:
    try:
        return network.map_size(side_px, side_px)
    except InputError:
        return None
