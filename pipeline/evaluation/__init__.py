"""How good detections are: matching, average precision (VOC, COCO), the devkit's files."""

from pipeline.evaluation.coco import evaluate_coco
from pipeline.evaluation.devkit import read_devkit, write_devkit
from pipeline.evaluation.diagnosis import KINDS, ClassDiagnosis, detection_kinds, diagnose
from pipeline.evaluation.each_object import Reached, reached
from pipeline.evaluation.matching import OUTCOMES, Matches, match_detections
from pipeline.evaluation.precision import average_precision
from pipeline.evaluation.tables import TableLike
from pipeline.evaluation.voc import Curve, Evaluation, evaluate_detections

__all__ = [
    "KINDS",
    "OUTCOMES",
    "ClassDiagnosis",
    "Curve",
    "Evaluation",
    "Matches",
    "Reached",
    "TableLike",
    "average_precision",
    "detection_kinds",
    "diagnose",
    "evaluate_coco",
    "evaluate_detections",
    "match_detections",
    "reached",
    "read_devkit",
    "write_devkit",
]
