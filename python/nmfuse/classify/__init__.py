"""Healthy or unhealthy: images of two classes, the classifier, and honest measures of it."""

from nmfuse.classify.audit import Audit, audit
from nmfuse.classify.classifier import Classifier, Explained
from nmfuse.classify.copies import group_copies, grouped_split, join_groups, leaks
from nmfuse.classify.evaluate import Evaluation, evaluate_split
from nmfuse.classify.images import ImageFolder, find_images, read_groups, read_image, read_split
from nmfuse.classify.measures import Measures, bootstrap, calibration, measures, precision_recall, roc

__all__ = [
    "Audit",
    "Classifier",
    "Evaluation",
    "Explained",
    "ImageFolder",
    "Measures",
    "audit",
    "bootstrap",
    "calibration",
    "evaluate_split",
    "find_images",
    "group_copies",
    "grouped_split",
    "join_groups",
    "leaks",
    "measures",
    "precision_recall",
    "read_groups",
    "read_image",
    "read_split",
    "roc",
]
