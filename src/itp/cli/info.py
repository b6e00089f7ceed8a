"""``itp info``: versions, engine, model, CPU features."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import itp
from itp._core.qnet import KERNELS
from itp.models.load import load_model, shipped_models
from itp.schema import SERVICE_ORDERS

PACKAGES = ("numpy", "onnxruntime", "blake3", "xxhash", "rich", "torch")
# What the compiled kernels choose by, and what a newer one might.
FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "asimd", "asimddp", "sve")


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("info", help="tell versions, engine, model and CPU features")
    parser.add_argument("--model", help="an .onnx file to verify and describe")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Gather and print."""
    report = gather(args.model)
    if args.json:
        json.dump(report, sys.stdout, indent=2)
        print()
        return 0
    table = Table(show_header=False, box=None)
    models = [
        f"{m['version']} for {m['service_order']}, {m['engine']} (SHA-256 {m['sha256']})"
        for m in report["shipped_models"]
    ]
    for name, value in {**report, "shipped_models": models}.items():
        if value is None:
            continue
        shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        table.add_row(f"[bold]{name}[/bold]", shown)
    Console().print(table)
    return 0


def gather(model: str | None) -> dict[str, Any]:
    """The report as plain values; ModelError for a bad model."""
    report: dict[str, Any] = {
        "itp": itp.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in PACKAGES:
        try:
            report[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            report[package] = "not installed"
    report["cpu"], report["cpu_features"] = _cpu()
    report["cpus"] = os.cpu_count()
    report["forward_pass_kernels"] = list(KERNELS)
    found = [(name, load_model(name, order)) for name in shipped_models() for order in SERVICE_ORDERS]
    report["shipped_models"] = [
        {
            "name": name,
            "service_order": m.service_order,
            "version": m.version,
            "sha256": m.sha256[:12],
            "engine": "onnxruntime" if m.net is None else "native",
        }
        for name, m in found
    ]
    if model is None:
        report["engine"] = "heuristic (no model given)"
    else:
        loaded = load_model(model)
        report["engine"] = "onnxruntime" if loaded.net is None else "native"
        report["why_not_native"] = loaded.why_not_native
        report["model"] = str(loaded.path)
        report["model_version"] = loaded.version
        report["model_sha256"] = loaded.sha256
        report["model_service_order"] = loaded.service_order
    return report


def _cpu() -> tuple[str, list[str]]:
    """Name and features as the kernel tells them; other systems tell less."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    name = fields.get("model name") or platform.machine()
    return name, [feature for feature in FEATURES if feature in flags]
