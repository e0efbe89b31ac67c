"""The fully connected layers fc6, fc7 and fc8 that read SPP vectors."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import RecipeError
from pipeline.networks.linear import FullyConnected


class Head(nn.Module):
    """fc6 and fc7 with ReLU and dropout, and fc8 where there is one.

    Attributes:
        units: length of fc6's and fc7's vectors.
        dropout: chance of a unit to be left out while training (paper: 0.5).
    """

    def __init__(
        self,
        fc6: FullyConnected,
        fc7: FullyConnected,
        fc8: nn.Linear | None,
        dropout: float | int = 0.5,
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
