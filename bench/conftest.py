"""Print ratios of medians where a group has a peer, throughput and memory; `--ratios FILE` writes them."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

from itp_overhead import machine


def pytest_addoption(parser):
    parser.addoption("--ratios", type=Path, help="also write the ratios to this file, as Markdown")


def pytest_terminal_summary(terminalreporter, config):
    """Print what the benchmarks' ``extra_info`` asks for.

    "role" is "itp" or "peer", "decisions" the number of decisions in a round, "..._bytes_an_env" a figure.
    """
    session = getattr(config, "_benchmarksession", None)
    measured = [benchmark for benchmark in session.benchmarks if benchmark.stats.rounds] if session else []
    rows, rates, sizes = _ratios(measured), _rates(measured), _sizes(measured)
    line = terminalreporter.line
    if rows:
        terminalreporter.section("ratios of medians, side by side in this run")
        line(f"{'group':<18}{'itp':<38}{'us':>10}  {'peer':<32}{'us':>10}{'peer/itp':>10}")
        for group, ours, a_us, peer, b_us in rows:
            figures = f"{ours:<38}{a_us:>10.3f}  {peer:<32}{b_us:>10.3f}{b_us / a_us:>10.2f}"
            line(f"{group:<18}{figures}")
    if rates:
        terminalreporter.section("throughput: a round's decisions / its median")
        for name, decisions, rate in rates:
            line(f"{name:<46}{decisions:>10,} decisions a round{rate:>14,.0f} decisions/s")
    for name, n_bytes in sizes:
        line(f"{name:<46}{n_bytes:>10,} bytes")
    if config.option.ratios and (rows or rates or sizes):
        config.option.ratios.write_text(_markdown(rows, rates, sizes))


def _ratios(measured):
    groups = defaultdict(lambda: {"itp": [], "peer": []})
    for benchmark in measured:
        role = benchmark.extra_info.get("role")
        if role:
            groups[benchmark.group][role].append(benchmark)
    return [
        (group, ours.name, ours.stats.median * 1e6, peer.name, peer.stats.median * 1e6)
        for group, roles in groups.items()
        for ours in roles["itp"]
        for peer in roles["peer"]
    ]


def _rates(measured):
    counted = [(benchmark, benchmark.extra_info.get("decisions")) for benchmark in measured]
    return [
        (benchmark.name, decisions, decisions / benchmark.stats.median)
        for benchmark, decisions in counted
        if decisions
    ]


def _sizes(measured):
    return [
        (f"{benchmark.name}: {key.removesuffix('_bytes_an_env')} an environment", value)
        for benchmark in measured
        for key, value in benchmark.extra_info.items()
        if key.endswith("_bytes_an_env")
    ]


def _markdown(rows, rates, sizes):
    described = machine.describe()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items() if version)
    lines = [
        "# Ratios of medians, side by side in one run",
        "",
        f"{described['cpu']}, {described['system']}, Python {described['python']}, "
        f"{versions}; {time.strftime('%Y-%m-%d')}. Made by `make bench-results`.",
    ]
    if rows:
        lines += [
            "",
            "| group | itp | us | peer | us | peer / itp |",
            "| --- | --- | ---: | --- | ---: | ---: |",
        ]
        lines += [
            f"| {group} | {ours} | {a_us:.3f} | {peer} | {b_us:.3f} | {b_us / a_us:.2f} |"
            for group, ours, a_us, peer, b_us in rows
        ]
    if rates:
        lines += ["", "The simulator, on one thread: a round's decisions / its median.", ""]
        lines += ["| simulator | decisions a round | decisions/s |", "| --- | ---: | ---: |"]
        lines += [f"| {name} | {decisions:,} | {rate:,.0f} |" for name, decisions, rate in rates]
    if sizes:
        lines += ["", "| memory | bytes |", "| --- | ---: |"]
        lines += [f"| {name} | {n_bytes:,} |" for name, n_bytes in sizes]
    return "\n".join(lines) + "\n"
