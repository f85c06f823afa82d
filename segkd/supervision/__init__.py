"""Label-only terms: the main loss on the logits, and auxiliary heads on taps. The same in both arms of a comparison."""

from segkd.supervision.boundary import BoundaryAwareCE, BoundaryBCE, BoundaryWeightedCE, DetailLoss
from segkd.supervision.class_weights import (
    effective_number_weights,
    inverse_frequency_weights,
    inverse_log_weights,
    median_frequency_weights,
)
from segkd.supervision.cross_entropy import IGNORE_INDEX, OHEM, CrossEntropy, mean_over_processes
from segkd.supervision.heads import AuxHead, BoundaryHead
from segkd.supervision.region import Dice, Focal, Lovasz
from segkd.supervision.terms import TERM_KEYS, Supervision, _check_term, shrink_label

__all__ = [
    "IGNORE_INDEX",
    "OHEM",
    "TERM_KEYS",
    "AuxHead",
    "BoundaryAwareCE",
    "BoundaryBCE",
    "BoundaryHead",
    "BoundaryWeightedCE",
    "CrossEntropy",
    "DetailLoss",
    "Dice",
    "Focal",
    "Lovasz",
    "Supervision",
    "_check_term",
    "effective_number_weights",
    "inverse_frequency_weights",
    "inverse_log_weights",
    "mean_over_processes",
    "median_frequency_weights",
    "shrink_label",
]
