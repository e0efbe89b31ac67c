"""What the paper reached, to stand beside one's own."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pipeline.datasets import VOC_CLASSES

TABLE_8: Mapping[str, float] = MappingProxyType(
    dict(
        zip(
            VOC_CLASSES,
            (
                *(0.686, 0.697, 0.571, 0.412, 0.405, 0.663, 0.713, 0.725, 0.344, 0.673),
                *(0.617, 0.631, 0.710, 0.698, 0.576, 0.297, 0.590, 0.502, 0.652, 0.680),
            ),
            strict=True,
        )
    )
)
"""AP of "SPP ftfc7 bb": ZF-5 trained on ImageNet, five scales, fine-tuned, boxes regressed."""
NAME = "what the paper has on all of VOC 2007 (Table 8, “SPP ftfc7 bb”, 59.2 in the mean)"


def reference(classes: Sequence[str]) -> tuple[Mapping[str, float], str]:
    """Return the paper's AP by class and what it is; nothing for other classes than VOC's."""
    return (TABLE_8, NAME) if tuple(classes) == VOC_CLASSES else ({}, "")
