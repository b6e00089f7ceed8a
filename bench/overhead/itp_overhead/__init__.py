"""Measurements of what ITP costs on this machine, for ``itp bench``, ``bench/check.py`` and the benchmarks.

Each module measures one thing; ``suite`` runs them all for ``itp bench``.
"""

from itp_overhead.calls import bare_run, decide_and_report, decide_only, four_streams
from itp_overhead.networks import dense_chain

__all__ = ["bare_run", "decide_and_report", "decide_only", "dense_chain", "four_streams"]
