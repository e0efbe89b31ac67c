"""From the recipe's `[dataset]` to records and tables, whatever the kind."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from pipeline import config, index
from pipeline.config.dataset import Role
from pipeline.datasets import coco, digit_images, digits, folders, parquet
from pipeline.datasets.digits_scans import DIGIT_CLASSES
from pipeline.datasets.image_labels import class_lists, of_objects, read_class_lists
from pipeline.datasets.records import Split
from pipeline.datasets.voc import VOC_CLASSES, VOC_LOOK_ALIKES, read_voc
from pipeline.errors import InputError
from pipeline.printable import is_plain
from pipeline.store.files import written_aside

MADE = {"digits": "VOC", "digit_images": "images"}  # where a generated dataset is written
LONGEST_CLASS = 200  # letters
UNPACKED = "unpacked"  # where images go that were rows of a table


@dataclass(frozen=True)
class DatasetSpec:
    """What decides one image set of a dataset."""

    dataset: config.Dataset
    seed: int
    role: Role
    """What the images are for."""
    whole_images: bool = False
    """Whether labels are wanted of images as a whole, and not of objects in them."""

    @property
    def name(self) -> str:
        """What the files call the image set."""
        return getattr(self.dataset, self.role)

    @property
    def images_made(self) -> tuple[int, int]:
        """How many training and test images are made for the set, where the kind makes them."""
        known, wanted = self.dataset, self.name.split("+")
        return (
            known.train_images if "train" in wanted else 0,
            known.test_images if "test" in wanted else 0,
        )


@dataclass(frozen=True)
class DatasetStats:
    """What `write_index` found."""

    images: int
    objects: int
    classes: int
    skipped: list[str]
    """Invalid objects that were left out."""
    without_objects: str
    """Classes that no image of the set shows: nothing can be learned, or judged, of them."""


def class_names(dataset: config.Dataset) -> tuple[str, ...]:
    """Return the classes of the recipe, in order.

    Raises:
        InputError: the files that name them are absent or damaged, or what they say is no name.
    """
    names = _class_names(dataset)
    for name in names:
        if not name.strip() or len(name) > LONGEST_CLASS or not is_plain(name):
            raise InputError(
                f"{name!r:.80} is no name of a class: give up to {LONGEST_CLASS} letters that can "
                "be printed, on one line"
            )
    if len(set(names)) < len(names):
        ((twice, _),) = Counter(names).most_common(1)
        raise InputError(f"two classes are called {twice!r}: give each a name of its own")
    return names


def _class_names(dataset: config.Dataset) -> tuple[str, ...]:
    if dataset.classes is not None:
        return dataset.classes
    if dataset.kind in MADE:
        return DIGIT_CLASSES
    if dataset.kind == "voc":
        return VOC_CLASSES
    if not dataset.has_labels:
        return ()
    root, split, follow = _root(dataset), dataset.train, dataset.follow_links
    if dataset.kind == "coco":
        return coco.category_names(root, split, follow_links=follow)
    if dataset.kind == "folders":
        return folders.class_folders(root, split)
    return parquet.parquet_classes(root, split, dataset.label_column, follow_links=follow)


def look_alikes(dataset: config.Dataset) -> tuple[tuple[str, ...], ...]:
    """Return sets of classes that are easily taken for each other; of those known, VOC's."""
    known = set(class_names(dataset)) if dataset.kind == "voc" else set()
    return VOC_LOOK_ALIKES if known & set(VOC_CLASSES) else ()


def fingerprint(spec: DatasetSpec) -> str:
    """Return a digest of the image set's files as they are now: their names, sizes and times.

    Raises:
        InputError: they are not where the recipe says.
    """
    dataset, root, split = spec.dataset, _root(spec.dataset), spec.name
    follow = dataset.follow_links
    if dataset.kind == "voc":
        lists = class_lists(root, split, class_names(dataset)) if spec.whole_images else {}
        return index.fingerprint(root, split, list(lists.values()), follow_links=follow)
    if dataset.kind == "coco":
        own = [coco.annotations(root, split, follow_links=follow)]
        folder = coco.image_folder(root, split)
        if folder == root / split:
            return index.tree_fingerprint(own, [folder])
        listed = coco.image_files(root, split, follow_links=follow)
        return index.tree_fingerprint([*own, *listed], [])  # the folder has others' too
    if dataset.kind == "parquet":
        files = parquet.parquet_files(root, split, follow_links=follow)
        return index.tree_fingerprint(files, [])
    if not dataset.has_labels:
        return index.tree_fingerprint(folders.image_files(root, split), [])
    classes = class_names(dataset)
    within = [folder / name for folder in folders.split_folders(root, split) for name in classes]
    return index.tree_fingerprint([], within)


def write_index(spec: DatasetSpec, destination: Path) -> DatasetStats:
    """Read the image set, making it first where the kind says so, and write the two tables.

    Raises:
        InputError: what a reader refuses; or labels of images are wanted of images that have none.
    """
    dataset, classes = spec.dataset, class_names(spec.dataset)
    if dataset.kind in MADE:
        made = destination / MADE[dataset.kind]
        write = digits.write if dataset.kind == "digits" else digit_images.write_images
        n_train, n_test = spec.images_made
        write(made, spec.seed, n_train=n_train, n_test=n_test)
        spec = replace(spec, dataset=dataset.model_copy(update={"root": made}))
    read = _read(spec, destination)
    for name, make in (("images", index.images_table), ("objects", index.objects_table)):
        with written_aside(destination / f"{name}.parquet") as aside:
            pq.write_table(make(read.records, spec.name), aside)
    shown = {one.class_name for record in read.records for one in record.objects}
    return DatasetStats(
        images=len(read.records),
        objects=sum(len(record.objects) for record in read.records),
        classes=len(classes),
        skipped=list(read.skipped),
        without_objects=", ".join(name for name in classes if name not in shown),
    )


def _read(spec: DatasetSpec, destination: Path) -> Split:
    dataset, split, whole_images = spec.dataset, spec.name, spec.whole_images
    root, classes, follow = _root(dataset), class_names(dataset), dataset.follow_links
    if dataset.kind in ("folders", "digit_images"):
        return folders.read_folders(root, split, classes, follow_links=follow)
    if not dataset.has_labels:
        return folders.read_images(root, split, follow_links=follow)
    if dataset.kind == "parquet":
        where = (dataset.label_column, destination / UNPACKED)
        return parquet.read_parquet_images(root, split, classes, *where, follow_links=follow)
    if whole_images and dataset.kind == "voc":
        listed = read_class_lists(root, split, classes, follow_links=follow)
        if listed is not None:
            return listed
    read = coco.read_coco if dataset.kind == "coco" else read_voc
    found = read(root, split, classes, skip_invalid=dataset.skip_invalid, follow_links=follow)
    if not whole_images:
        return found
    if found.skipped:
        raise InputError(
            f"{found.skipped[0]}: what an image shows is told by its objects, so none of them can "
            "be left out: mend it, or add VOC's class lists"
        )
    return replace(found, records=tuple(map(of_objects, found.records)))


def _root(dataset: config.Dataset) -> Path:
    if dataset.root is None:
        raise InputError(f"dataset.kind = {dataset.kind!r} has no folder yet: it is made by a run")
    return dataset.root
