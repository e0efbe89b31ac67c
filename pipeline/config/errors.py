"""How the network's own classifier is judged: top-1 and top-5 errors by test views."""

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.section import Section

View = Literal["crop", "full", "10", "8+2"]


class Errors(Section):
    """Views of test images whose class scores are averaged (paper §3.1; SPEC §10).

    `crop`: the one in the centre. `full`: the image as a whole, of whatever shape. `10`: the centre
    and the four corners of the entire image, each also mirrored. `8+2`: the same, with the whole
    image in the place of the centre (Table 1, e5).
    """

    views: tuple[View, ...] | None = None
    """Which are judged, each by itself; none: all that the network takes. Without a pyramid it
    takes no whole images."""
    scales: tuple[int, ...] | None = None
    """Shorter sides in pixels at which an image is seen; scores are averaged over all. None: that
    of the network's own training, else 256 (paper §3.1)."""
    crop_px: int | None = Field(default=None, gt=0)
    """Side of crops; none: the largest of the network's own training, else 224."""
    top: tuple[int, ...] = (1, 5)
    """An image is right if its class is among so many of the highest scores; more than there are
    classes are left out."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs that are reserved; none: 1 where the cluster has GPUs, else 0."""

    @field_validator("views")
    @classmethod
    def _some_views(cls, value: tuple[View, ...] | None) -> tuple[View, ...] | None:
        if value is not None and not (value and len(set(value)) == len(value)):
            raise ValueError('give one or more different views, such as ["crop", "full"]')
        return value

    @field_validator("scales", "top")
    @classmethod
    def _some_numbers(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not (value and min(value) > 0 and len(set(value)) == len(value)):
            raise ValueError("give one or more different whole numbers from 1")
        return value
