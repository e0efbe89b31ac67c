"""One of several processes that train together: its rank, their number, and what they train."""

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from torch import distributed

from pipeline.config import Pretrain
from pipeline.extraction import NetworkSpec
from pipeline.pretraining import TrainingSpec, train_part


def main() -> None:
    rank, count, sync, table, folder, trainings = sys.argv[1:]
    group = {"rank": int(rank), "world_size": int(count), "timeout": timedelta(seconds=100)}
    distributed.init_process_group("gloo", init_method=f"file://{sync}", **group)
    told = {}
    for name, (network, settings) in json.loads(trainings).items():
        spec = TrainingSpec(NetworkSpec(**network), Path(table), 3, Pretrain(**settings), 3)
        states = Path(folder) / name
        told[name] = [asdict(train_part(spec, states, part)) for part in range(spec.parts)]
    sys.stdout.write(json.dumps(told) + "\n")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
