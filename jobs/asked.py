"""The store that a question is put to, and the run that it belongs to.

A store is named as a folder, as a URI, or as `RECIPE:train` or `RECIPE:test`. That last way also
tells which network made it, so that boxes which were never extracted can be asked about, and which
classifiers and detections there are.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs import dag, extract, steps
from jobs.context import DONE, STORE
from jobs.detect import DETECTIONS
from jobs.job import Step
from jobs.network import trained_spec
from jobs.options import is_recipe, load
from pipeline import store
from pipeline.config import Detection, Recipe
from pipeline.detection import read_detections
from pipeline.errors import InputError
from pipeline.learning import Classifiers
from pipeline.learning.classifiers import load as load_classifiers
from pipeline.networks import Network
from pipeline.store import Place, Store, Vectors, schema
from pipeline.store.files import read_json
from pipeline.store.identity import store_digest
from pipeline.store.manifest import SETTINGS
from pipeline.store.place import place
from pipeline.teaching import Shelf, Version
from pipeline.teaching.detecting import kept_detections, read_kept
from pipeline.teaching.versioning import newest_on, require_newest_on

SHELF = "classifiers"
_RECIPE_AND_SPLIT = re.compile(r"(?P<recipe>.+):(?P<split>train|test)")


@dataclass(frozen=True)
class Asked:
    """A finished store, and what is known about it."""

    store: Store
    shelf: Place
    """Where the classifiers are kept that people teach it."""
    recipe: Recipe | None = None
    """None where the store was named by itself; then there are no jobs either."""
    split: str = ""
    jobs: Mapping[str, Step] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call the store: `RECIPE:test`, or else its place."""
        return str(self.store.root) if self.recipe is None else f"{self.recipe.name}:{self.split}"

    def network(self) -> Network | None:
        """Return the network that made the store, on the CPU; None where it is not known."""
        return self._network

    @cached_property
    def _network(self) -> Network | None:
        if self.recipe is None:
            return None
        spec = trained_spec(self.recipe, {name: step.folder for name, step in self.jobs.items()})
        return spec.prepared(self.jobs[f"extract_{self.split}"].folder / extract.NETWORK).load()

    def classifiers(self) -> list[Classifiers]:
        """Return what the run has trained, and then what people have taught, class by class.

        What was trained on other vectors is left out: a shelf may serve several stores.
        """
        known = self._trained()
        known += [version.classifiers for version in self._taught()]
        return [each for each in known if self.fits(each)]

    @cached_property
    def vectors(self) -> Vectors:
        """Its vectors; kept, for finding where they lie takes as long as reading some."""
        return Vectors(self.store)

    @cached_property
    def store_digest(self) -> str:
        """What tells the store from all others, however its place is spelt; kept, as vectors."""
        return store_digest(self.store)

    def on(self, shelf: str | None) -> "Asked":
        """Return the same with what people have taught on another shelf, if one is named."""
        return self if shelf is None else replace(self, shelf=place(shelf))

    def classifier(self, class_: str) -> Classifiers:
        """Return the classifier of one class: what was taught, or else what the run has trained.

        Raises:
            InputError: there is none, or it was trained on other vectors.
        """
        held = Shelf(self.shelf)
        if (taught := newest_on(held, class_, self.store)) is not None:
            return taught.classifiers
        own = [each.only(class_) for each in self._trained() if class_ in each.classes]
        if own and own[0].unit:
            raise InputError(
                f"{class_} was trained on vectors of length 1, by whole images, and searching is "
                f"by the others' kind: ask spp query to order by score({class_!r}, vector)"
            )
        return own[0] if own else require_newest_on(held, class_, self.store).classifiers

    def file_of(self, image: str) -> Path:
        """Return the file of an image of the store, or the one of that name."""
        row = self.store.image(image)
        return Path(image if row is None else row["file"])

    def known_to(self, query: str) -> tuple[list[Classifiers], pa.Table | None]:
        """Return the classifiers and the detections that a query in SQL may name.

        Only where it does: a shelf may have hundreds of classes, and each is a file or two.
        """
        text = query.lower()
        known = self.classifiers() if "score" in text else []
        return known, self.detections() if "detections" in text else None

    def fits(self, known: Classifiers) -> bool:
        """Return whether classifiers were trained on such vectors as the store has."""
        try:
            known.check_fits(self.store.made_from, self.store.root)
        except InputError:
            return False
        return True

    def run_detections(self) -> Path | None:
        """Return the folder of the run's detections in this store, if it has come so far."""
        folder = self._done("detect") if self.split == "test" else None
        return None if folder is None else folder / DETECTIONS

    @property
    def detection_settings(self) -> Detection:
        """The recipe's, or the defaults."""
        return Detection() if self.recipe is None else self.recipe.detection

    def detections(self) -> pa.Table:
        """Return the run's detections in this store, and those of what people have taught.

        As with `classifiers`, what was taught last counts for a class: the run's are left out.
        """
        folder, name = self.run_detections(), kept_detections(self.store, self.detection_settings)
        found = schema.DETECTIONS.empty_table() if folder is None else read_detections(folder)
        taught = {
            version.classifiers.classes[0]: read_kept(version, name) for version in self._taught()
        }
        kept = {class_: table for class_, table in taught.items() if table is not None}
        replaced = pa.array(kept, pa.string())  # of that type even where there is none
        found = found.filter(~pc.field("class").isin(replaced))
        return pa.concat_tables([found, *kept.values()])

    def _taught(self) -> Iterator[Version]:
        shelf = Shelf(self.shelf)
        return filter(None, (newest_on(shelf, name, self.store) for name in shelf.classes()))

    def _trained(self) -> list[Classifiers]:
        """Return what the run has trained, if it has come so far."""
        whole = self.recipe is not None and self.recipe.task == "classification"
        folder = self._done("train" if whole else "mine")
        return [] if folder is None else [load_classifiers(folder)]

    def _done(self, job: str) -> Path | None:
        step = self.jobs.get(job)
        return None if step is None or step.record is None else step.folder


def ask(
    named: str, runs: Path, data: Path | None = None, overrides: list[str] | None = None
) -> Asked:
    """Return the store of this name.

    Args:
        named: a folder, a URI, or `RECIPE:train` or `RECIPE:test`.
        runs: the run directory, where recipes' stores lie.
        data: where relative paths in the recipe start from.
        overrides: of the recipe's fields.

    Raises:
        InputError: there is no such store, or it is not finished.
        RecipeError: there is no such recipe.
    """
    match = _of_recipe(named)
    if match is None:
        root = _by_itself(named)
        return Asked(store.open(root), root / SHELF)
    recipe = load(match["recipe"], overrides, data)
    if match["split"] not in recipe.roles:
        raise InputError(
            f"{recipe.name} has no {match['split']} images, only {recipe.roles[0]} ones: "
            f"ask {match['recipe']}:{recipe.roles[0]}"
        )
    planned = dag.plan(steps.jobs_of(recipe), recipe, runs)
    step, shelf = planned[f"extract_{match['split']}"], place(runs / recipe.name / SHELF)
    if step.record is None:
        raise InputError(
            f"{recipe.name} has no finished features of its {match['split']} images in {runs}: run "
            f"spp extract {match['recipe']}, with the --runs, --data and --set of this command"
        )
    return Asked(store.open(step.store), shelf, recipe, match["split"], planned)


def is_made_in(runs: Path, held: Asked) -> bool:
    """Return whether a run in this run directory, which is trusted, made the store.

    A store that only lies in there may have been brought from anywhere.
    """
    if held.recipe is not None:
        return True
    root, jobs = held.store.root, (runs / "jobs").resolve()
    if not root.far and Path(str(root)).resolve().parent.parent == jobs:
        return True
    records = (read_json(each / DONE) or {} for each in jobs.glob("extract_*"))
    return any(each.get("summary", {}).get("store") == str(root) for each in records)


def is_store(named: str) -> bool:
    """Return whether a word names a store, and not a recipe."""
    return "://" in named or Path(named).is_dir() or _of_recipe(named) is not None


def root_of(
    named: str, runs: Path, data: Path | None = None, overrides: list[str] | None = None
) -> Place:
    """Return where the store of this name lies, finished or not.

    Args:
        named: as for `ask`, and so are the others.
        runs: see there.
        data: see there.
        overrides: see there.
    """
    match = _of_recipe(named)
    if match is None:
        return _by_itself(named)
    recipe = load(match["recipe"], overrides, data)
    planned = dag.plan(steps.jobs_of(recipe), recipe, runs)
    return place(planned[f"extract_{match['split']}"].store)


def _of_recipe(named: str) -> re.Match[str] | None:
    """Return the parts of `RECIPE:train`; None where that is a folder, or something else."""
    match = None if "://" in named else _RECIPE_AND_SPLIT.fullmatch(named)
    return None if match is None or Path(named).exists() else match


def _by_itself(named: str) -> Place:
    """Return the place that a folder or a URI names; the folder of a job names its store."""
    if "://" not in named:
        folder = Path(named)
        recipe = named.partition(":")[0]
        if not folder.is_dir() and is_recipe(recipe):
            raise InputError(
                f"{named} is no store: {recipe} is a recipe, and has {recipe}:train and "
                f"{recipe}:test"
            )
        if not folder.exists():
            raise InputError(
                f"there is no store {named}: give a folder, a URI, or RECIPE:train or RECIPE:test"
            )
        if not (folder / SETTINGS).exists() and (folder / STORE / SETTINGS).exists():
            return place(folder / STORE)
    return place(named)
