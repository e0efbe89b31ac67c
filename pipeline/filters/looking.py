"""One image's feature maps, and beside each filter the images that it responds to most."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from pipeline.errors import InputError
from pipeline.filters.reading import Reader, evenly, pictures
from pipeline.filters.sight import Picture
from pipeline.filters.strongest import Response, Strongest, best_filters, responses
from pipeline.store.reader import Store


@dataclass(frozen=True)
class Wanted:
    """What to look at."""

    image: str | None = None
    """Id of an image; None: that which is most often among the filters' strongest."""
    filters: Sequence[int] = ()
    """That are shown in any case, and first."""
    top: int = 5
    """How many of the image's strongest filters are shown besides."""
    among: int = 200
    """Images that are looked at, evenly spread over the store."""
    strongest: int = 4
    """How many of a filter's strongest images are shown."""


@dataclass(frozen=True)
class Filter:
    """A filter, as one row of the picture shows it."""

    number: int
    response: Response
    """In the image that is shown."""
    mean: float
    """Of its responses, one for each image."""
    deviation: float
    standing: float
    """Of the response: how many deviations it is above the mean."""
    strongest: list[Response]
    feature_map: Float[np.ndarray, "rows cols"]
    """Of the image that is shown."""


@dataclass(frozen=True)
class Looked:
    """What was seen."""

    picture: Picture
    """The image that is shown."""
    filters: list[Filter]
    images: int
    """That were looked at."""
    channels: int
    pictures: dict[str, Picture]
    """Of the images that are named."""
    unseen: dict[str, str] = field(default_factory=dict)
    """Reasons for images that could not be looked at."""


def look(
    known: Mapping[str, Picture],
    reader: Reader,
    wanted: Wanted,
    seen: Callable[[], object] = lambda: None,
) -> Looked:
    """Go through images, and return what the filters respond to.

    Memory: one image and its map at a time, and of each filter the strongest responses.

    Args:
        known: the images, as `looked_at` gives them: that which is asked for is among them.
        reader: gives their maps.
        wanted: what to look at.
        seen: called after each image.

    Raises:
        InputError: there is no such filter, or the image that is asked for, or none of all, could
            be looked at.
    """
    strongest, unseen, kept = Strongest(wanted.strongest), {}, None
    for image_id, picture in known.items():
        try:
            feature_map = _finite(reader.feature_map(picture))
        except InputError as error:
            if image_id == wanted.image:
                raise InputError(f"image {image_id} cannot be shown: {error}") from None
            unseen[image_id] = str(error)
        else:
            _require_filters(wanted.filters, len(feature_map))
            strongest.add(image_id, feature_map)
            kept = feature_map if image_id == wanted.image else kept
        seen()
    if not strongest.images:
        first = next(iter(unseen), "")
        raise InputError(
            f"none of {len(unseen)} images could be looked at; image {first}: {unseen.get(first)}"
        )
    shown = wanted.image or strongest.most_often(wanted.filters)
    if kept is None:
        kept = _finite(reader.feature_map(known[shown]))
    filters = _filters(shown, kept, strongest, wanted)
    named = {shown, *(each.image_id for one in filters for each in one.strongest)}
    own = {image_id: picture for image_id, picture in known.items() if image_id in named}
    return Looked(known[shown], filters, strongest.images, len(kept), own, unseen)


def looked_at(store: Store, wanted: Wanted) -> dict[str, Picture]:
    """Return the images that are looked at, sorted: the one that is shown is among them.

    Raises:
        InputError: the store has no such image, or none at all.
    """
    if not store.totals.images:
        raise InputError(f"{store.root} holds no image that could be read")
    chosen = evenly(store, wanted.among)
    if wanted.image is not None and wanted.image not in chosen:
        _require_image(store, wanted.image, chosen[0])
        chosen.append(wanted.image)
    return pictures(store, chosen)


def _require_image(store: Store, image_id: str, such: str) -> None:
    if store.shard_of(image_id) is not None:
        return
    if store.image(image_id) is not None:
        reason = store.quarantined().get(image_id, "it is in no shard")
        raise InputError(
            f"image {image_id} was left out when {store.root} was made: {reason}; "
            "spp quarantine tells more"
        )
    raise InputError(f"{store.root} has no image {image_id}: its images are such as {such}")


def _finite(
    feature_map: Float[np.ndarray, "channels rows cols"],
) -> Float[np.ndarray, "channels rows cols"]:
    """Return a map that has nothing but numbers: one that is none would be stronger than all."""
    if not np.isfinite(feature_map).all():
        raise InputError("its map has numbers that are not finite: see spp verify")
    return feature_map


def _require_filters(numbers: Sequence[int], channels: int) -> None:
    for number in numbers:
        if not 0 <= number < channels:
            raise InputError(
                f"there is no filter {number}: the network's maps have {channels:,} channels, "
                f"numbered from 0 to {channels - 1}"
            )


def _filters(
    image_id: str,
    feature_map: Float[np.ndarray, "channels rows cols"],
    strongest: Strongest,
    wanted: Wanted,
) -> list[Filter]:
    values, cells = responses(feature_map)
    first = list(dict.fromkeys(wanted.filters))
    ranked = best_filters(values, strongest, wanted.top + len(first), wanted.strongest)
    others = [number for number in ranked if number not in first][: wanted.top]
    standings, deviation = strongest.standings(values), strongest.deviation
    return [
        Filter(
            number,
            Response(
                image_id, float(values[number]), (int(cells[number, 0]), int(cells[number, 1]))
            ),
            float(strongest.mean[number]),
            float(deviation[number]),
            float(standings[number]),
            strongest.of(number),
            feature_map[number].astype(np.float64),
        )
        for number in [*first, *others]
    ]
