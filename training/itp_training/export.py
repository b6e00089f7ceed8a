"""From a network to a model file: ONNX, its metadata inside and beside it, checked against PyTorch."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from itp import __version__
from itp._core.decider import STATE_DIM
from itp._core.state import SCHEMA
from itp._util.files import write_bytes, write_text
from itp.actions import N_ACTIONS
from itp.models.load import load_model
from itp.models.onnxruntime import runtime
from itp.schema import SET_SCHEMA
from itp_training.config import TrainingConfig
from itp_training.errors import TrainingError
from itp_training.network import QNetwork
from itp_training.set_graph import IR_VERSION, OPSET, set_graph
from itp_training.trainer import Round

N_PARITY_STATES = 10_000
PARITY = 1e-5
"""Largest difference from PyTorch's Q-values, relative to a state's largest one, at least 1."""


def export(
    network: QNetwork,
    config: TrainingConfig,
    folder: Path,
    *,
    name: str,
    rounds: list[Round],
    fitted: dict[str, Any] | None = None,
) -> Path:
    """Write folder/name.onnx and folder/name.json.

    Parameters
    ----------
    network : QNetwork
    config : TrainingConfig
        It was trained with.
    folder : Path
    name : str
        Also the beginning of the version that decisions are marked with.
    rounds : list of Round
        What training did; the last one's figures are kept.
    fitted : dict, optional
        More of the metadata: ``calibration``, ``guard``, ``evaluation``.

    Returns
    -------
    Path
        Of the ONNX file.

    Raises
    ------
    TrainingError
        The file's answers differ from the network's, or are not finite; nothing is written.
    OSError
        It cannot be written; what stood there stands.
    """
    metadata: dict[str, Any] = {
        "schema": SCHEMA,
        "service_order": config.service_order,
        "architecture": {
            "inputs": STATE_DIM,
            "hidden": list(config.hidden),
            "outputs": N_ACTIONS,
            "batch_norm": config.batch_norm,
            "dropout": config.dropout,
            "duelling": config.duelling,
        },
        "training": {
            "config": config.as_dict(),
            "seed": config.seed,
            "last_round": asdict(rounds[-1]) if rounds else None,
            "itp": __version__,
            "torch": torch.__version__,
            "git_revision": git_revision(),
            "date": datetime.now(timezone.utc).date().isoformat(),
        },
        **(fitted or {}),
    }
    graph = to_onnx(network)
    weights = hashlib.sha256(graph.SerializeToString()).hexdigest()
    metadata["version"] = f"{name}-{weights[:8]}"
    content = with_metadata(graph, metadata)
    metadata["parity"] = check_parity(network, content)
    return write_model(folder / f"{name}.onnx", content, metadata)


def with_metadata(graph: onnx.ModelProto, metadata: dict[str, Any]) -> bytes:
    """The bytes of a model file with its metadata inside."""
    helper.set_model_props(graph, {"itp": json.dumps(metadata, allow_nan=False)})
    return bytes(graph.SerializeToString(deterministic=True))


def write_model(path: Path, content: bytes, metadata: dict[str, Any]) -> Path:
    """Write a model file and its metadata beside it, once a copy was loaded to see that it can be served.

    Raises
    ------
    ModelError
        It cannot be served; nothing is written.
    OSError
        It cannot be written; what stood there stands.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        copy.write_bytes(content)
        load_model(copy)
    metadata = {**metadata, "sha256": hashlib.sha256(content).hexdigest()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Metadata that contradicts its model is refused on loading: the old one goes first.
    path.with_suffix(".json").unlink(missing_ok=True)
    write_bytes(path, content)
    write_text(path.with_suffix(".json"), json.dumps(metadata, indent=1, allow_nan=False) + "\n")
    return path


def write_set_model(arrays: Mapping[str, NDArray[np.float32]], metadata: dict[str, Any], path: Path) -> Path:
    """Write the file of a set model, schema 2, and its metadata beside it.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The weights, as ``itp._core.setnet.SetNet`` takes them.
    metadata : dict
        Of ``itp.models.metadata`` and more; ``schema`` is added, and ``version`` where it is missing.
    path : Path
        Ends in ``.onnx``.

    Raises
    ------
    ModelError
        The model cannot be served, or the two engines differ; nothing is written.
    OSError
        It cannot be written; what stood there stands.
    """
    graph = set_graph(arrays)
    weights = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
    metadata = {"version": f"{path.stem}-{weights[:8]}", **metadata, "schema": SET_SCHEMA}
    return write_model(path, with_metadata(graph, metadata), metadata)


def to_onnx(network: QNetwork) -> onnx.ModelProto:
    """The network in evaluation mode as a chain of Gemm and ReLU: ``state`` [batch, 20] to ``q_values``."""
    layers = network.eval().dense_layers()
    nodes, weights = [], []
    value = "state"
    for number, (weight, bias) in enumerate(layers):
        last = number == len(layers) - 1
        for kind, tensor in (("weight", weight), ("bias", bias)):
            weights.append(numpy_helper.from_array(tensor.contiguous().numpy(), f"layer{number}.{kind}"))
        out = "q_values" if last else f"dense{number}"
        nodes.append(
            helper.make_node("Gemm", [value, f"layer{number}.weight", f"layer{number}.bias"], [out], transB=1)
        )
        value = out
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"relu{number}"]))
            value = f"relu{number}"
    graph = helper.make_graph(
        nodes,
        "itp",
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", STATE_DIM])],
        [helper.make_tensor_value_info("q_values", TensorProto.FLOAT, ["batch", N_ACTIONS])],
        weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="itp",
        producer_version=__version__,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def check_parity(network: QNetwork, content: bytes) -> dict[str, float]:
    """Compare a model file's answers with the network's on random states; TrainingError if they differ."""
    ort = runtime()
    states = np.random.default_rng(0).random((N_PARITY_STATES, STATE_DIM), dtype=np.float32)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(["q_values"], {"state": states})[0].astype(np.float64)
    device = next(network.parameters()).device
    with torch.inference_mode():
        wanted = network.eval()(torch.from_numpy(states).to(device)).cpu().numpy().astype(np.float64)
    if not np.isfinite(wanted).all():
        raise TrainingError("the network's Q-values are not finite: it cannot be exported")
    scale = np.maximum(np.abs(wanted).max(axis=1, keepdims=True), 1.0)
    difference = float((np.abs(found - wanted) / scale).max())
    if not difference <= PARITY:
        raise TrainingError(f"the exported model differs from the network by {difference:.2g} > {PARITY:g}")
    return {"states": N_PARITY_STATES, "largest_difference": difference}


def git_revision() -> str | None:
    """Of the working tree this runs in, if it is one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
