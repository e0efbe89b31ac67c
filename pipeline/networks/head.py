"""The fully connected layers fc6, fc7 and fc8 that read SPP vectors."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import RecipeError


class Head(nn.Module):
    """fc6 and fc7 with ReLU and dropout, and fc8 where there is one.

    Attributes:
        units: length of fc6's and fc7's vectors.
        dropout: chance of a unit to be left out while training (paper: 0.5).
    """

    def __init__(
        self, fc6: nn.Linear, fc7: nn.Linear, fc8: nn.Linear | None, dropout: float | int = 0.5
    ):
        super().__init__()
        self.fc6, self.fc7, self.fc8 = fc6, fc7, fc8
        self.dropout = dropout

    @property
    def units(self) -> int:
        """Length of fc6's and fc7's vectors."""
        return self.fc7.out_features

    def hidden(
        self, vectors: Float[Tensor, "windows dim"], layer: str = "fc7"
    ) -> Float[Tensor, "windows units"]:
        """``fc6`` or ``fc7`` after ReLU; dropout follows each while training, never otherwise."""
        fc6 = self._dropout(functional.relu(self.fc6(vectors)))
        return fc6 if layer == "fc6" else self._dropout(functional.relu(self.fc7(fc6)))

    def forward(self, vectors: Float[Tensor, "windows dim"]) -> Float[Tensor, "windows classes"]:
        """Class scores before the softmax.

        Raises:
            RecipeError: there is no fc8.
        """
        if self.fc8 is None:
            raise RecipeError("this head has no fc8: class scores need weights that include it")
        return self.fc8(self.hidden(vectors))

    def _dropout(self, units: Float[Tensor, "windows units"]) -> Float[Tensor, "windows units"]:
        return functional.dropout(units, p=self.dropout, training=self.training)


class ChannelMajorLinear(nn.Linear):
    """A first fc layer whose stored columns run as an ordinary net flattens its last pooling.

    Such a net flattens channels x rows x cols, so its columns have channels slowest; an SPP vector
    has them fastest (SPEC §4). The vectors are turned here, and the weights stay as published: a
    vector has 25,088 numbers where VGG's fc6 has 103 million.
    """

    def __init__(self, channels: int, side: int, units: int):
        super().__init__(channels * side * side, units)
        self.channels = channels

    def forward(self, input: Float[Tensor, "windows dim"]) -> Float[Tensor, "windows units"]:
        """Reads SPP vectors of one level, bin-major."""
        bins = input.shape[1] // self.channels
        turned = input.view(-1, bins, self.channels).transpose(1, 2).flatten(1)
        return super().forward(turned)
