"""Steps of training from nothing, against a plain PyTorch loop of the same network.

Ours is `Training.epoch` over images in memory or in JPEG files, 256 px on the shorter side: crops,
flips and colours, preprocessing, order, counts and the learning rate included, all but the step
itself on threads beside it. The plain loop has its batches ready as tensors, and does nothing but
score, cross-entropy, gradients and SGD. One thread of torch; batches of images of 224 px.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import Row, main, median_s
from PIL import Image
from torch.nn import functional

from pipeline import networks
from pipeline.config import Pretrain
from pipeline.networks import Network
from pipeline.pretraining import CropImages, FileImages, Images, write_table
from pipeline.pretraining.files import Views
from pipeline.pretraining.training import training

CLASSES = 10


def made_network(width: float) -> Network:
    """An untrained SPP-net6."""
    return networks.load(
        "zf5", width=width, fc_units=round(4096 * width), levels=(6, 3, 2, 1), classes=CLASSES
    )


def made_files(folder: Path, count: int) -> Path:
    """The table of photographs of noise and gradients, 341 x 256 px, of 30 kB each."""
    random = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for file in files:
        small = random.integers(0, 256, (24, 32, 3)).astype(np.uint8)
        picture = Image.fromarray(small).resize((341, 256), Image.Resampling.BICUBIC)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=95)
        file.write_bytes(data.getvalue())
    write_table(folder / "images.parquet", files, np.arange(count) % CLASSES)
    return folder / "images.parquet"


def ours_s(network: Network, images: Images, settings: Pretrain, runs: int) -> float:
    """Median seconds of an epoch of ours."""
    chosen = np.arange(len(images.labels))
    with training(network, settings, 0) as at_work:
        return median_s(lambda: at_work.epoch(images, chosen, 0), runs)


def plain_s(network: Network, steps: int, batch_size: int, side: int, runs: int) -> float:
    """Median seconds of as many steps of a plain loop."""
    network.train().requires_grad_(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
    batches = [
        torch.randn(batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
        for _ in range(steps)
    ]
    targets = torch.arange(batch_size) % CLASSES

    def loop() -> None:
        for images in batches:
            loss = functional.cross_entropy(network.logits(images), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss.item()

    return median_s(loop, runs)


def run(quick: bool) -> list[Row]:
    """In memory, and from files."""
    torch.set_num_threads(1)
    side, batch_size, steps, width = (48, 4, 2, 0.1) if quick else (224, 8, 4, 1.0)
    runs = 1 if quick else 5
    settings = Pretrain(
        sides_px=(side,),
        batch_size=batch_size,
        epochs=1,
        learning_rate=0.001,
        dropout=0.5,
        scaffold=False,
        decode_threads=2,
    )
    count = steps * batch_size
    crops = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    memory = CropImages(crops, np.arange(count) % CLASSES, flips=True)
    peer = plain_s(made_network(width), steps, batch_size, side, runs)
    what = f"{steps} steps of {batch_size} images, ZF-5 x {width:g}, {side} px"
    in_memory = ours_s(made_network(width), memory, settings, runs)
    with tempfile.TemporaryDirectory() as folder:
        files = FileImages(made_files(Path(folder), count), Views.of(settings), threads=2)
        files.colours = files.find_colours(np.arange(count), count)
        in_files = ours_s(made_network(width), files, settings, runs)
    against = "a plain loop over tensors"
    return [
        Row(f"{what}, in memory", in_memory, against, peer, 0.95),
        Row(f"{what}, from JPEG files", in_files, against, peer, 0.95),
    ]


if __name__ == "__main__":
    main(run)
