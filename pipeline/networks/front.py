"""The first layers of a network as a network of their own: conv4 of the paper's Tables 3 and 4."""

from collections.abc import Iterable

from torch import nn

from pipeline.errors import RecipeError
from pipeline.networks.network import Network

OPTION = "upto"  # among a network's options: the last layer that it has


class Front(Network):
    """A network as far as one of its layers, without fc layers.

    Its maps are that layer's, after the ReLU that follows; geometry and channels follow from them.
    It shares its weights with the network that it is of.
    """

    classifier_name = "fc8"

    def __init__(self, whole: Network, last: str):
        super().__init__(whole.name, {**whole.options, OPTION: last}, whole.levels)
        self._architecture = type(whole)
        self.preprocessing = whole.preprocessing
        self.shrink = whole.shrink
        self.used = nn.ModuleList(_until(whole, last))

    def path(self) -> Iterable[nn.Module]:
        """The layers that are left."""
        return self.used

    def built_anew(self) -> Network:
        """The front of another one."""
        names, options = self._architecture.option_names(), dict(self.options)
        own = {name: option for name, option in options.items() if name in names}
        return until(self._architecture(**own), options[OPTION])


def until(network: Network, last: str) -> Network:
    """Return the front of a network; of one that ends there already, itself.

    Args:
        network: whole, or such a front.
        last: a layer's name, such as `conv4`.

    Raises:
        RecipeError: it has no such layer between image and feature maps.

    >>> from pipeline.networks import outline
    >>> zf5 = outline("zf5")
    >>> front = until(zf5, "conv4")
    >>> front.channels, front.map_size(224, 224), zf5.channels
    (384, (13, 13), 256)
    """
    if network.options.get(OPTION) == last:
        return network
    return Front(network, last).train(network.training).requires_grad_(False)


def _until(network: Network, last: str) -> list[nn.Module]:
    layers = list(network.path())
    names = {id(module): name for name, module in network.named_modules(remove_duplicate=True)}
    known = [names.get(id(layer), "") for layer in layers]
    if last not in known or not last:
        weighted = [
            name
            for name, each in zip(known, layers, strict=True)
            if name and next(each.parameters(), None) is not None
        ]
        listed = ", ".join(dict.fromkeys(weighted)) or "none with a name"
        raise RecipeError(
            f"network.upto: {network.name} has no layer {last!r} on the way to its feature maps: "
            f"choose among {listed}"
        )
    end = known.index(last) + 1
    while end < len(layers) and isinstance(layers[end], nn.ReLU):
        end += 1
    return layers[:end]
