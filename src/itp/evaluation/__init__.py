"""Compare policies in the same simulated worlds, and report what was found."""

from itp.evaluation.comparison import DEFAULT_SEEDS, compare, ready
from itp.evaluation.replicas import across
from itp.evaluation.report import Report

__all__ = ["DEFAULT_SEEDS", "Report", "across", "compare", "ready"]
