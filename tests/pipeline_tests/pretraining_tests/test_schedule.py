"""The learning rate of a step."""

import pytest
import torch

from pipeline.config import Pretrain
from pipeline.pretraining.schedule import Plateau, one_cycle
from pipeline.pretraining.training import side_px


@pytest.mark.parametrize("steps", [1, 2, 7, 11, 40, 688])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_one_cycle_is_torchs(steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    for step in range(steps):
        assert one_cycle(step, steps, 0.1) == optimizer.param_groups[0]["lr"]
        if step + 1 < steps:
            theirs.step()


def test_one_cycle_of_ten_steps_has_no_rise():
    assert one_cycle(0, 10, 0.5) == pytest.approx(0.02)  # torch divides by zero there


def test_a_plateau_by_hand():
    """Patience 2, one drop: the rate falls after two epochs without a better accuracy."""
    settings = Pretrain(schedule="plateau", patience=2, drops=1)
    held, seen = Plateau(0.01), []
    for accuracy in (0.1, 0.3, 0.3, 0.2, 0.4, 0.35, 0.41, 0.41, 0.4):
        held = held.after(accuracy, settings)
        seen.append((round(held.rate, 6), held.waited, held.ended))
    assert seen == [
        (0.01, 0, False),
        (0.01, 0, False),
        (0.01, 1, False),  # 0.3 is not above 0.3
        (0.001, 0, False),  # the second in vain
        (0.001, 0, False),
        (0.001, 1, False),
        (0.001, 0, False),
        (0.001, 1, False),
        (0.001, 2, True),  # it would drop once more
    ]
    assert held.best == 0.41


def test_sizes_alternate_by_epoch_or_by_batch():
    by_epoch = Pretrain(sides_px=(224, 180, 96))
    assert [side_px(by_epoch, epoch, 4, 5) for epoch in range(4)] == [224, 180, 96, 224]
    by_batch = Pretrain(sides_px=(224, 180), mix="batch")
    assert [side_px(by_batch, 0, step, 3) for step in range(3)] == [224, 180, 224]
    assert [side_px(by_batch, 1, step, 3) for step in range(3)] == [180, 224, 180]  # goes on
