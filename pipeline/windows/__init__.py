"""Candidate windows: make them (selective search, grid) or import them, and measure their recall.

Windows are float32 SPEC §1 boxes, `[windows 4]`, best first where the source ranks them.
"""

from pipeline.windows.grid import grid
from pipeline.windows.imported import check_windows, read_parquet
from pipeline.windows.mat import MatLayout, read_mat
from pipeline.windows.recall import WindowRecall, recall, window_ious
from pipeline.windows.selective_search import selective_search

__all__ = [
    "MatLayout",
    "WindowRecall",
    "check_windows",
    "grid",
    "read_mat",
    "read_parquet",
    "recall",
    "selective_search",
    "window_ious",
]
