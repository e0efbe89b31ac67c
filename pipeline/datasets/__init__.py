"""Datasets: files to records. The only room, with the window importers, that knows a "-1"."""

from pipeline.datasets.records import ImageRecord, Object, Split
from pipeline.datasets.voc import VOC_CLASSES, read_voc

__all__ = ["VOC_CLASSES", "ImageRecord", "Object", "Split", "read_voc"]
