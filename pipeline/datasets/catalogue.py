"""From the recipe's `[dataset]` to records and tables, whatever the kind."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import config, index
from pipeline.datasets import digits
from pipeline.datasets.digits_scans import DIGIT_CLASSES
from pipeline.datasets.voc import VOC_CLASSES, VOC_LOOK_ALIKES, VocSplit, read_voc
from pipeline.store.files import written_aside

MADE = "VOC"  # where a generated dataset is written, in VOC layout


@dataclass(frozen=True)
class DatasetSpec:
    """What decides a dataset."""

    dataset: config.Dataset
    seed: int


@dataclass(frozen=True)
class DatasetStats:
    """What `write_index` found."""

    images_train: int
    images_test: int
    objects: int
    classes: int
    skipped: list[str]
    """Invalid objects that were left out."""
    without_objects: str
    """Classes that the training images show nowhere: nothing can be learned of them."""


def class_names(dataset: config.Dataset) -> tuple[str, ...]:
    """Return the classes of the recipe, in order."""
    if dataset.classes is not None:
        return dataset.classes
    return DIGIT_CLASSES if dataset.kind == "digits" else VOC_CLASSES


def look_alikes(dataset: config.Dataset) -> tuple[tuple[str, ...], ...]:
    """Return sets of classes that are easily taken for each other; of those known, VOC's."""
    return () if dataset.kind == "digits" else VOC_LOOK_ALIKES


def write_index(spec: DatasetSpec, destination: Path) -> DatasetStats:
    """Read both image sets, making them first where the kind says so, and write the two tables."""
    dataset, root = spec.dataset, spec.dataset.root
    if dataset.kind == "digits":
        root = destination / MADE
        digits.write(root, spec.seed, n_train=dataset.train_images, n_test=dataset.test_images)
    assert root is not None  # the recipe's own check
    splits = {name: _read(root, name, dataset) for name in _split_names(dataset)}
    for name, make in (("images", index.images_table), ("objects", index.objects_table)):
        table = pa.concat_tables(make(read.records, split) for split, read in splits.items())
        with written_aside(destination / f"{name}.parquet") as aside:
            pq.write_table(table, aside)
    train, test = (splits[name].records for name in (dataset.train, dataset.test))
    shown = {one.class_name for record in train for one in record.objects}
    absent = [name for name in class_names(dataset) if name not in shown]
    return DatasetStats(
        images_train=len(train),
        images_test=len(test),
        objects=sum(len(record.objects) for read in splits.values() for record in read.records),
        classes=len(class_names(dataset)),
        skipped=[text for read in splits.values() for text in read.skipped],
        without_objects=", ".join(absent),
    )


def _split_names(dataset: config.Dataset) -> list[str]:
    return list(dict.fromkeys((dataset.train, dataset.test)))


def _read(root: Path, split: str, dataset: config.Dataset) -> VocSplit:
    return read_voc(root, split, class_names(dataset), skip_invalid=dataset.skip_invalid)
