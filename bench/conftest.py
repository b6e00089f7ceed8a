"""Prints, for every group with a peer, the ratio of medians within this run; `--ratios` keeps it."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections import defaultdict
from pathlib import Path

PACKAGES = ("numpy", "onnxruntime", "cpprb")


def pytest_addoption(parser):
    parser.addoption("--ratios", type=Path, help="also write the ratios to this file, as Markdown")


def pytest_terminal_summary(terminalreporter, config):
    """A benchmark's role stands in ``extra_info["role"]``: "itp" or "peer"."""
    session = getattr(config, "_benchmarksession", None)
    groups = defaultdict(lambda: {"itp": [], "peer": []})
    for benchmark in session.benchmarks if session else ():
        role = benchmark.extra_info.get("role")
        if role and benchmark.stats.rounds:
            groups[benchmark.group][role].append(benchmark)
    rows = [
        (group, ours.name, ours.stats.median * 1e6, peer.name, peer.stats.median * 1e6)
        for group, roles in groups.items()
        for ours in roles["itp"]
        for peer in roles["peer"]
    ]
    if not rows:
        return
    terminalreporter.section("ratios of medians, side by side in this run")
    terminalreporter.line(f"{'group':<18}{'itp':<38}{'us':>10}  {'peer':<32}{'us':>10}{'peer/itp':>10}")
    for group, ours, a_us, peer, b_us in rows:
        figures = f"{ours:<38}{a_us:>10.3f}  {peer:<32}{b_us:>10.3f}{b_us / a_us:>10.2f}"
        terminalreporter.line(f"{group:<18}{figures}")
    if config.option.ratios:
        config.option.ratios.write_text(_markdown(rows))


def _markdown(rows):
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# Ratios of medians, side by side in one run",
        "",
        f"{_cpu()}, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{versions}; {time.strftime('%Y-%m-%d')}. Made by `make bench-results`.",
        "",
        "| group | itp | us | peer | us | peer / itp |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    lines += [
        f"| {group} | {ours} | {a_us:.3f} | {peer} | {b_us:.3f} | {b_us / a_us:.2f} |"
        for group, ours, a_us, peer, b_us in rows
    ]
    return "\n".join(lines) + "\n"


def _cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown CPU")
