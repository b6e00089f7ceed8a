"""What ITP costs on this machine: the measurements behind ``itp bench`` and ``bench/``.

``suite.measure`` takes them all; each module before it takes one kind.
"""

from itp_overhead.calls import bare_run, decide_and_report, decide_only, four_streams
from itp_overhead.networks import dense_chain

__all__ = ["bare_run", "decide_and_report", "decide_only", "dense_chain", "four_streams"]
