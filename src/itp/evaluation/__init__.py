"""Policies held against each other in the same worlds, and the report of it."""

from itp.evaluation.comparison import DEFAULT_SEEDS, compare, ready
from itp.evaluation.replicas import across
from itp.evaluation.report import Report

__all__ = ["DEFAULT_SEEDS", "Report", "across", "compare", "ready"]
