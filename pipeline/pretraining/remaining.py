"""All parts of a training one after the other, by one process or by several that share batches."""

from dataclasses import asdict
from itertools import takewhile
from pathlib import Path

from pipeline.pretraining.parts import TrainingSpec, train_part
from pipeline.pretraining.ranks import Ranks
from pipeline.store.files import read_json, write_json


def train_remaining(spec: TrainingSpec, states: Path, told: Path) -> None:
    """Train all parts that nothing is told of yet, each from what the last one left.

    Where `torch.distributed` is initialised, all its processes call this with the same arguments,
    and the first one writes. A part's state is written before it is told of: who is killed in
    between trains it again, and comes to the same.

    Args:
        spec: what is trained.
        states: a folder; of the parts that are told of it holds the last one's.
        told: folder of what is told of each part, its `EpochStats` in `000000.json` and so on.

    Raises:
        RecipeError: network, sizes and classes do not go together.
        InputError: as for `train_part`.
    """
    ranks = Ranks.here()
    held = (read_json(_record(told, part)) for part in range(spec.parts))
    done = list(takewhile(bool, held))
    over = bool(done) and done[-1]["ended"]
    # Another machine may see a file later: where all of them begin, the first process says.
    first = ranks.broadcast_from_first(spec.parts if over else len(done))
    for part in range(first, spec.parts):
        stats = train_part(spec, states, part)
        if ranks.first:
            write_json(_record(told, part), asdict(stats))
        if stats.ended:
            break


def _record(told: Path, part: int) -> Path:
    return told / f"{part:06d}.json"
