"""Prints, for every group with a peer, the ratio of medians within this run."""

from __future__ import annotations

from collections import defaultdict


def pytest_terminal_summary(terminalreporter, config):
    """A benchmark's role stands in ``extra_info["role"]``: "itp" or "peer"."""
    session = getattr(config, "_benchmarksession", None)
    groups = defaultdict(lambda: {"itp": [], "peer": []})
    for benchmark in session.benchmarks if session else ():
        role = benchmark.extra_info.get("role")
        if role and benchmark.stats.rounds:
            groups[benchmark.group][role].append(benchmark)
    rows = [
        (group, ours, peer)
        for group, roles in groups.items()
        for ours in roles["itp"]
        for peer in roles["peer"]
    ]
    if not rows:
        return
    terminalreporter.section("ratios of medians, side by side in this run")
    terminalreporter.line(f"{'group':<18}{'itp':<38}{'us':>10}  {'peer':<32}{'us':>10}{'peer/itp':>10}")
    for group, ours, peer in rows:
        a, b = ours.stats.median, peer.stats.median
        terminalreporter.line(
            f"{group:<18}{ours.name:<38}{a * 1e6:>10.3f}  {peer.name:<32}{b * 1e6:>10.3f}{b / a:>10.2f}"
        )
