"""What tells stores apart, and what does not."""

from pipeline.store import Store
from pipeline.store.identity import images_digest, store_digest


def of(held: Store, **made_from: str) -> Store:
    told = Store(held.root)
    told.__dict__["made_from"] = made_from
    return told


def test_vectors_are_told_apart_by_their_bytes_alone(make_store, made, tmp_path):
    stores = [
        make_store(tmp_path / name, [{"a": made([[number, 1]], [[0, 0, 9, 9]])}], 2)
        for name, number in (("one", 3), ("same", 3), ("other", 5))
    ]
    first, same, other = map(store_digest, stores)
    assert first == same != other
    assert images_digest(stores[0]) == first  # nobody has said of which images it is
    again = of(stores[0], network="new", dataset="photos", split="train")
    assert store_digest(again) == first


def test_images_are_the_same_whatever_network_saw_them(make_store, made, tmp_path):
    held = make_store(tmp_path, [{"a": made([[3, 1]], [[0, 0, 9, 9]])}], 2)
    told = {"dataset": "photos", "split": "train"}
    first = images_digest(of(held, network="old", **told))
    assert images_digest(of(held, network="new", **told)) == first
    assert images_digest(of(held, network="old", dataset="photos", split="test")) != first
    assert images_digest(of(held, network="old", dataset="other", split="train")) != first
