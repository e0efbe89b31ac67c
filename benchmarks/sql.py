"""Scores of all windows through SQL, against a bare pass over the same vectors.

A store of pool5 vectors like SqueezeNet's: 7,168 float16, two numbers in three zeros. The query is
`SELECT max(score('class00', vector)) FROM windows`; the bare pass is `Classifiers.score` over
`Store.scan`. Then a part of the windows as `export --portable` writes them, asked by DuckDB itself
with `list_inner_product`, against `dot` on the store of that part. All from the page cache, and all
on one core: a query would use more, a bare pass not. Every pair must agree on the answer.
"""

import os
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from measure import Row, main, median_s

from pipeline import index, store
from pipeline.datasets.records import ImageRecord, Object
from pipeline.learning.classifiers import Classifiers
from pipeline.store import portable
from pipeline.store.labels import write_labels
from pipeline.store.place import place
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, SCALARS

DIM = 7168
CLASSES = tuple(f"class{number:02d}" for number in range(20))
WINDOWS = 100  # an image, of which one is an object
GROUP_BYTES = 32_000_000  # features.row_group_bytes
SHARD_IMAGES = 50


def rows_of(number: int, spec: store.VectorSpec) -> pa.Table:
    """The windows of an image."""
    random = np.random.default_rng(number)
    values = np.maximum(random.normal(size=(WINDOWS, DIM)).astype(np.float32) - 0.43, 0)
    word = pa.dictionary(pa.int32(), pa.string())
    columns = {
        "image_id": pa.array([f"{number:06d}"] * WINDOWS),
        "window_id": pa.array(np.arange(WINDOWS, dtype=np.int32)),
        **{
            name: pa.array([float(k)] * WINDOWS, pa.float32()) for k, name in enumerate(BOX_COLUMNS)
        },
        "scale_px": pa.array([480] * WINDOWS, pa.int16()),
        "source": pa.array([GROUND_TRUTH] + ["file"] * (WINDOWS - 1)).cast(word),
        "split": pa.array(["train"] * WINDOWS).cast(word),
    }
    table = pa.table(columns, schema=pa.schema(SCALARS))
    return table.append_column(spec.schema().field("vector"), spec.to_arrow(values))


def make_store(root: Path, images: int) -> store.Store:
    """A store of so many images."""
    spec, where = store.VectorSpec(DIM), place(root)
    store.claim(where, {"network": "none"})
    names = [f"{number:06d}" for number in range(images)]
    shards = [names[start : start + SHARD_IMAGES] for start in range(0, images, SHARD_IMAGES)]
    for shard, own in enumerate(shards):
        with store.ShardWriter(where, f"{shard:05d}", spec.schema(), GROUP_BYTES) as writer:
            for name in own:
                writer.write(rows_of(int(name), spec))
            writer.commit("benchmark", dict.fromkeys(own, WINDOWS), {}, "")
    cat = Object("cat", (0.0, 1.0, 2.0, 3.0))
    records = [ImageRecord(name, Path("none.jpg"), 500, 375, (cat,)) for name in names]
    write_labels(where, "images.parquet", index.images_table(records, "train"))
    write_labels(where, "objects.parquet", index.objects_table(records, "train"))
    store.finish(where, [f"{shard:05d}" for shard in range(len(shards))])
    return store.open(where)


def known(classes: tuple[str, ...]) -> Classifiers:
    """Classifiers of as many classes."""
    weights = np.random.default_rng(0).normal(size=(len(classes), DIM)).astype(np.float32)
    return Classifiers(classes, weights, np.zeros(len(classes), np.float32), 1 / 64)


def bare(held: store.Store, classifiers: Classifiers) -> list[float]:
    """The highest score of each class, by one pass."""
    score = classifiers.scorer()
    best = [score(store.vectors(table)).max(axis=0) for table in held.scan(["vector"])]
    return np.max(best, axis=0).tolist()


def asked(held: store.Store, classifiers: Classifiers, where: str = "true") -> list[float]:
    """The same through SQL."""
    said = ", ".join(f"max(score('{name}', vector)) AS {name}" for name in classifiers.classes)
    table = held.sql(f"SELECT {said} FROM windows WHERE {where}", classifiers=[classifiers])
    return list(table.to_pylist()[0].values())


def of_lists(folder: Path, weights: np.ndarray) -> float:
    """The highest product with a vector, by DuckDB over an export."""
    query = f"SELECT max(list_inner_product(vector, $w)) FROM '{folder}/windows/*.parquet'"
    with duckdb.connect() as connection:
        ((best,),) = connection.execute(query, {"w": weights.tolist()}).fetchall()
    return best


def of_dot(held: store.Store, weights: np.ndarray) -> float:
    """The same with `dot` over the store."""
    said = held.sql("SELECT max(dot(vector, $w)) AS best FROM windows", {"w": weights})
    return said["best"][0].as_py()


def run(quick: bool) -> list[Row]:
    """One class, twenty, one row in a hundred, and lists."""
    images, part, runs = (4, 2, 1) if quick else (300, 20, 5)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    one, all_ = known(CLASSES[:1]), known(CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        held = make_store(Path(folder) / "store", images)
        small = make_store(Path(folder) / "small", part)
        portable.export(small, place(Path(folder) / "lists"))
        assert np.allclose(asked(held, one), bare(held, one), rtol=1e-4)
        assert np.allclose(asked(held, all_), bare(held, all_), rtol=1e-4)
        lists, weights = Path(folder) / "lists", one.weights[0]
        assert np.isclose(of_lists(lists, weights), of_dot(small, weights), rtol=1e-4)
        few = median_s(lambda: asked(held, one, f"source = '{GROUND_TRUTH}'"), runs)
        asked_s = median_s(lambda: asked(held, one), runs)
        size = f"{images * WINDOWS:,} windows of {DIM:,} float16"
        return [
            Row(
                f"score of a class, {size}",
                asked_s,
                "Classifiers.score over Store.scan",
                median_s(lambda: bare(held, one), runs),
                1 / 1.3,
                "scan copies vectors out of Parquet, a query reads them where they lie",
            ),
            Row(
                f"scores of {len(CLASSES)} classes, the same windows",
                median_s(lambda: asked(held, all_), runs),
                "Classifiers.score over Store.scan",
                median_s(lambda: bare(held, all_), runs),
                None,
                "in SQL each class is a call of its own, in the pass one product is for all",
            ),
            Row(f"score of one window in {WINDOWS}", few, "score of all of them", asked_s, None),
            Row(
                f"product with a vector, {part * WINDOWS:,} windows",
                median_s(lambda: of_dot(small, weights), runs),
                "DuckDB's list_inner_product over the portable export",
                median_s(lambda: of_lists(lists, weights), runs),
                5,
            ),
        ]


if __name__ == "__main__":
    main(run)
