"""``itp info``: versions, engine, model, CPU features."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

import itp
from itp._core.qnet import KERNELS
from itp._util import console
from itp.models.load import Model, load_model, shipped_models
from itp.schema import SERVICE_ORDERS

PACKAGES = ("numpy", "onnxruntime", "blake3", "xxhash", "rich", "torch")
# What the compiled kernels are chosen by, and what newer ones might be.
FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "asimd", "asimddp", "sve")


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of ``itp info``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Show versions, engine, models and CPU features; with --model, verify a model and "
        "describe it.",
    )
    parser.add_argument("--model", metavar="NAME|FILE", help="a shipped model or an .onnx file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    """Gather and print."""
    report = gather(args.model)
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    models = [
        f"{m['version']} for {' and '.join(m['service_orders'])}, {m['engine']} (SHA-256 {m['sha256']})"
        for m in report["shipped_models"]
    ]
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    for name, value in {**report, "shipped_models": models}.items():
        if isinstance(value, list):
            table.add_row(name, ", ".join(map(str, value)) or "none")
        elif value is not None:
            table.add_row(name, str(value))
    console.output().print(table)
    return 0


def gather(model: str | None) -> dict[str, Any]:
    """The report as plain values.

    Raises
    ------
    ModelError
        There is no such model, or it cannot serve.
    """
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
    report["shipped_models"] = [
        {
            "name": name,
            "schema": m.schema,
            "service_orders": orders,
            "version": m.version,
            "sha256": m.sha256[:12],
            "engine": _engine(m),
        }
        for name, orders, m in _shipped()
    ]
    if model is None:
        report["engine"] = "heuristic (no model given)"
    else:
        loaded = load_model(model)
        report["engine"] = _engine(loaded)
        report["model_schema"] = loaded.schema
        report["why_not_native"] = loaded.why_not_native
        report["why_one_by_one"] = loaded.why_one_by_one
        report["model"] = str(loaded.path)
        report["model_version"] = loaded.version
        report["model_sha256"] = loaded.sha256
        report["model_service_order"] = loaded.service_order
    return report


def _shipped() -> Iterator[tuple[str, list[str], Model]]:
    """Every file of a shipped model, with its name and the service orders that it is for."""
    for name in shipped_models():
        files = {order: load_model(name, order) for order in SERVICE_ORDERS}
        for path in dict.fromkeys(m.path for m in files.values()):
            orders = [order for order, m in files.items() if m.path == path]
            yield name, orders, files[orders[0]]


def _engine(model: Model) -> str:
    return "onnxruntime" if model.net is None and model.set_net is None else "native"


def _cpu() -> tuple[str, list[str]]:
    """Name and features as the Linux kernel reports them; other systems report less."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    name = fields.get("model name") or platform.machine()
    return name, [feature for feature in FEATURES if feature in flags]
