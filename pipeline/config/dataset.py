"""Where images and labels come from."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section

Role = Literal["train", "test"]  # what a run does with an image set, whatever its name


class Dataset(Section):
    """The images and their labels.

    | kind | what `root` is | an image set, such as `train` |
    |---|---|---|
    | `voc` | the `VOC2007` folder | a list in `ImageSets/Main` |
    | `coco` | a folder with `annotations` | `annotations/instances_train.json`, images in `train` |
    | `folders` | a folder of image sets | `train/CLASS/*.jpg` |
    | `parquet` | a folder of Hugging Face's | `train-*.parquet` in it, or in `data` |
    | `digits` | none: made on the spot | `train` and `test`, scenes of digits |
    | `digit_images` | none: made on the spot | `train` and `test`, images of one digit each |

    Of `folders`, `train+test` is both together, and `.` is where `root` holds the classes.
    `folders`, `parquet` and `digit_images` say what an image shows and not where: they are for
    classification.
    """

    kind: Literal["voc", "coco", "folders", "parquet", "digits", "digit_images"] = "voc"
    """See the table."""
    root: Path | None = None
    """Relative to `--data`."""
    train: str = "trainval"
    """Name of the image set that classifiers learn from."""
    test: str = "test"
    """Name of the image set that they are judged by."""
    classes: tuple[str, ...] | None = None
    """Default: the twenty of VOC, the ten digits, or those that the files name."""
    label_column: str | None = None
    """Of `parquet`; none: the one that the files call class labels."""
    skip_invalid: bool = False
    """Leave out invalid objects, counted and listed, instead of stopping at the first (SPEC §1)."""
    follow_links: bool = False
    """Follow links in `root` that lead out of it; else they are refused, for a folder of others may
    hold a link to anything."""
    train_images: int = Field(default=160, gt=0)
    """Made for `digits` and `digit_images`."""
    test_images: int = Field(default=100, gt=0)
    """Likewise."""

    @field_validator("classes")
    @classmethod
    def _different_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("give one or more different names")
        return value

    @model_validator(mode="after")
    def _root_is_given(self) -> "Dataset":
        holds = {
            "voc": 'the folder that holds "ImageSets"',
            "coco": 'the folder that holds "annotations"',
            "folders": "the folder that holds the image sets, or the classes",
            "parquet": "the folder that holds the Parquet files",
        }
        if self.root is None and self.kind in holds:
            raise ValueError(f"dataset.root is missing: give {holds[self.kind]}")
        return self

    @property
    def has_boxes(self) -> bool:
        """Whether labels say where in the image an object is."""
        return self.kind in ("voc", "coco", "digits")
