"""Per-class linear SVMs with mined hard negatives, and regression of boxes (SPEC §6, §8)."""

from pipeline.learning.box_regression import BoxRegressor, fit_box_regressor
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import evict_easy, select_hard
from pipeline.learning.svm import LinearSVM, fit_svm

__all__ = [
    "BoxRegressor",
    "Classifiers",
    "LinearSVM",
    "evict_easy",
    "fit_box_regressor",
    "fit_svm",
    "select_hard",
]
