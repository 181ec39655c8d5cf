"""Training of the networks."""

from nmfuse.training.focus import FocusResult, train_focus

__all__ = ["FocusResult", "train_focus"]
