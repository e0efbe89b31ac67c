"""Where on an image the cells of its feature map look."""

from dataclasses import dataclass
from pathlib import Path

from pipeline import images
from pipeline.networks import Network
from pipeline.spp.cells import HasGeometry


@dataclass(frozen=True)
class Picture:
    """An image of a store."""

    image_id: str
    file: Path
    width: int
    height: int


@dataclass(frozen=True)
class Spot:
    """Where a cell looks, in pixels of the original image."""

    centre: tuple[float, float]
    """Of its receptive field; may lie beyond the image's border."""
    receptive_field: tuple[float, float, float, float] | None
    """SPEC §1 box of the pixels that reach the cell; None: it is not known which do."""


@dataclass(frozen=True)
class Sight:
    """How the network sees images."""

    geometry: HasGeometry
    scale_px: int
    max_side_px: int | None = None
    network: Network | None = None
    """For receptive fields; its outline is enough. None: only a cell's centre is known."""

    @property
    def receptive_field_px(self) -> int | None:
        """Side of a cell's receptive field, in pixels of the resized image; None: unknown."""
        return None if self.network is None else self.network.receptive_field_px

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return width and height of the resized image."""
        return images.resized_size(picture.width, picture.height, self.scale_px, self.max_side_px)

    def factors(self, picture: Picture) -> tuple[float, float]:
        """Return new pixels per old one, horizontally and vertically."""
        width, height = self.size(picture)
        return width / picture.width, height / picture.height

    def spot(self, picture: Picture, cell: tuple[int, int]) -> Spot:
        """Return where a cell of an image's map looks."""
        factors = self.factors(picture)
        # The middle of the pixel under the centre.
        x, y = (
            (self.geometry.centre + self.geometry.stride * at + 0.5) / factor
            for at, factor in zip(cell, factors, strict=True)
        )
        field = None
        if self.network is not None:
            field = self.network.receptive_field(cell, *self.size(picture))
        if field is not None:
            x_min, x_max = (edge / factors[0] for edge in field[::2])
            y_min, y_max = (edge / factors[1] for edge in field[1::2])
            field = x_min, y_min, x_max, y_max
        return Spot((x, y), field)
