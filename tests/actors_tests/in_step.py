"""Work of several processes, step by step: each adds to a sum that the first one tells of."""

import json
import os
import time
from pathlib import Path

import torch
from torch import distributed

from pipeline.errors import InputError

STEPS = 3


def tell(told: Path, step: int, total: int) -> None:
    text = {"step": step, "total": total, "workers": distributed.get_world_size()}
    aside = told / f"{step}.aside"
    aside.write_text(json.dumps(text))
    aside.replace(told / f"{step}.json")


def steps(told: Path) -> None:
    """Each process adds 10 and its rank."""
    for step in range(STEPS):
        if not (told / f"{step}.json").is_file():
            number = torch.tensor(10 + distributed.get_rank())
            distributed.all_reduce(number)
            if distributed.get_rank() == 0:
                tell(told, step, int(number))
            distributed.barrier()


def dies_once(told: Path) -> None:
    """The second process dies before the second step, the first time that it comes there."""
    first = not (told / "dead").exists()
    if first and distributed.get_rank() == 1:
        number = torch.tensor(11)
        distributed.all_reduce(number)  # the first step
        distributed.barrier()
        (told / "dead").touch()
        os._exit(1)
    steps(told)


def always_dies(told: Path) -> None:
    if distributed.get_rank() == 1:
        with (told / "deaths").open("a") as file:
            file.write("x")
        os._exit(1)
    steps(told)


def refuses(told: Path) -> None:
    """What the second one cannot read the first one waits for."""
    if distributed.get_rank() == 1:
        with (told / "tries").open("a") as file:
            file.write("x")
        raise InputError("7 is not there: fetch it")
    steps(told)


def works_for_ever(told: Path) -> None:
    steps(told)
    if distributed.get_rank() == 0:
        (told / "pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.2)
