"""A model file: ONNX with metadata inside and, as JSON, beside it; loading verifies all of it.

Keys of the metadata that loading reads, each optional: ``schema`` (of the state, 1), ``sha256``
(of the ONNX file; beside it only), ``version`` (a name for decisions made with it), and those of
``itp.models.metadata``. A model for streams served in order of arrival may have a variant beside it for
``srpt``: ``NAME-srpt.onnx``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.calibration import Calibration
from itp._core.choose import Guard
from itp._core.decider import STATE_DIM
from itp._core.qnet import QNet
from itp._core.state import SCHEMA
from itp.actions import N_ACTIONS
from itp.errors import ModelError, SchemaError
from itp.models import metadata as metadata_of
from itp.models.chain import NotAChain, dense_layers
from itp.models.onnx import Graph, read_graph
from itp.models.onnxruntime import runtime

log = logging.getLogger("itp")

MAX_MODEL_BYTES = 256 * 2**20
N_PROBES = 4096
"""States, drawn uniformly or at the ends of their range, on which a model's answers are checked."""

TOLERANCE = 1e-5
"""Largest difference of the compiled forward pass from onnxruntime, relative to a state's largest Q-value.

Where that is small, because terms cancel, both engines' roundings stand out: it counts as no less than the
median of all probe states' largest.
"""

_TIE = 1e-6
# The operand of these operators that says how much they make of another, or of nothing.
_SIZED_BY = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
_PROBE_BATCH = 256
VARIANT = "-srpt"
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A verified model.

    Attributes
    ----------
    path : Path
    version : str
        From the metadata, or the file's stem and the first digits of its SHA-256.
    sha256 : str
    metadata : dict
    service_order : str or None
        It was trained for; None if it does not say.
    calibration : Calibration or None
        Tables of expected time and confidence.
    guard : Guard or None
    hard_deadlines : bool
        Actions that are planned to miss a deadline are closed while another one meets it.
    session : onnxruntime.InferenceSession
        One thread, sequential, on the CPU.
    takes_batches : bool
        It takes any number of states at a time, not one alone.
    net : QNet or None
        The compiled forward pass, checked against `session`.
    why_not_native : str or None
        Why there is none.
    """

    path: Path
    version: str
    sha256: str
    metadata: dict[str, Any] = field(repr=False)
    service_order: str | None = None
    calibration: Calibration | None = field(repr=False, default=None)
    guard: Guard | None = None
    hard_deadlines: bool = False
    session: Any = field(repr=False)
    takes_batches: bool
    net: QNet | None = field(repr=False, default=None)
    why_not_native: str | None = None


def shipped_models() -> list[str]:
    """Names of the models that come with the package, each with all its variants."""
    return sorted(path.stem for path in SHIPPED.glob("*.onnx") if not path.stem.endswith(VARIANT))


def find_model(model: str | os.PathLike[str], service_order: str = "fifo") -> Path:
    """The file of a shipped model's name or of a path, or its variant for a service order.

    Raises
    ------
    ModelError
        There is none.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a shipped name, a path or None; got {model!r}")
    path = Path(model)
    if path.suffix != ".onnx" and (SHIPPED / f"{path}.onnx").is_file():
        path = SHIPPED / f"{path}.onnx"
    if path.is_dir():
        inside = " or ".join(os.fspath(file) for file in sorted(path.glob("*.onnx")))
        raise ModelError(f"{os.fspath(model)!r} is a folder; pass {inside or 'the path of an .onnx file'}")
    if not path.is_file():
        names = ", ".join(shipped_models()) or "none"
        raise ModelError(
            f"no model at {os.fspath(model)!r}: it is neither a file nor a shipped model ({names}); "
            "pass the path of an .onnx file, or model=None for the heuristic"
        )
    variant = path.with_name(f"{path.stem}{VARIANT}.onnx")
    return variant if service_order == "srpt" and variant.is_file() else path


def load_model(model: str | os.PathLike[str], service_order: str = "fifo") -> Model:
    """Load a model and verify file, metadata, schema, shapes and answers on probe states.

    Where it has a variant for `service_order`, that is loaded; one that was trained for another order is
    served with a warning in the log.

    Raises
    ------
    ModelError
        Missing, too large, corrupt, truncated, of the wrong shape, or its answers are not finite.
    SchemaError
        Made for another state schema.
    """
    path = find_model(model, service_order)
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: {size_bytes} bytes; a model has at most {MAX_MODEL_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    beside = _metadata_beside(path)
    expected = beside.get("sha256", sha256)
    if expected != sha256:
        raise ModelError(f"{path}: SHA-256 is {sha256}, but {path.with_suffix('.json').name} says {expected}")
    try:
        # First of all: what claims more than it holds never gets to onnxruntime, which might believe it.
        graph = read_graph(content)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    _check_sizes(path, graph)
    session = _session(path, content)
    takes_batches = _check_signature(path, session)
    inside = _metadata_inside(path, session)
    metadata = {**inside, **beside}
    for schema in [part["schema"] for part in (inside, beside) if "schema" in part]:
        if type(schema) is not int or schema != SCHEMA:
            raise SchemaError(f"{path}: made for state schema {schema!r}; this version has schema {SCHEMA}")
    if "schema" not in metadata:
        log.warning("%s: no schema in its metadata; taken as schema %d", path, SCHEMA)
    trained_for = metadata_of.service_order(metadata, str(path))
    if trained_for not in (None, service_order):
        log.warning("%s: trained for %s; the streams are served by %s", path, trained_for, service_order)
    calibration = metadata_of.calibration(metadata, str(path))
    guard = metadata_of.guard(metadata, str(path))
    hard_deadlines = metadata_of.hard_deadlines(metadata, str(path))
    states = _probes()
    answers = _answers(path, session, states, takes_batches)
    net, why_not_native = _native(graph, states, answers)
    version = str(metadata.get("version") or f"{path.stem}-{sha256[:8]}")
    return Model(
        path=path,
        version=version,
        sha256=sha256,
        metadata=metadata,
        service_order=trained_for,
        calibration=calibration,
        guard=guard,
        hard_deadlines=hard_deadlines,
        session=session,
        takes_batches=takes_batches,
        net=net,
        why_not_native=why_not_native,
    )


def _check_sizes(path: Path, graph: Graph) -> None:
    """ModelError for an operator that makes more of a constant than a file may hold."""
    constants = [node for node in graph.nodes if node.op == "Constant" and node.outputs]
    held = {node.outputs[0]: node.attributes.get("value") for node in constants}
    for node in graph.nodes:
        operand = _SIZED_BY.get(node.op, len(node.inputs))
        if operand < len(node.inputs):
            name = node.inputs[operand]
            lengths = graph.constants.get(name, held.get(name))
            made = math.prod(lengths.ravel().tolist()) if isinstance(lengths, np.ndarray) else 0
            if made * 4 > MAX_MODEL_BYTES:
                raise ModelError(
                    f"{path}: operator {node.op} {node.name!r} makes {made:.3g} values; "
                    f"a model has at most {MAX_MODEL_BYTES} bytes"
                )


def _metadata_beside(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    try:
        metadata = json.loads(beside.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{beside}: the metadata cannot be read: {error}") from error
    if not isinstance(metadata, dict):
        raise ModelError(f"{beside}: the metadata must be a JSON object")
    return metadata


def _metadata_inside(path: Path, session: Any) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get("itp")
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the metadata inside cannot be read: {error}") from error
    if not isinstance(metadata, dict):
        raise ModelError(f"{path}: the metadata inside must be a JSON object")
    return metadata


def _session(path: Path, content: bytes) -> Any:
    ort = runtime()
    options = ort.SessionOptions()
    # Explicit counts: one thread that never leaves the caller's, and no affinity to fail on.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # One thread waits for no other: with spinning a run takes as long (measured), so nothing spins.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights in other files would escape the SHA-256: no folder, no such weights.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
        raise ModelError(f"{path}: not a valid ONNX model: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _check_signature(path: Path, session: Any) -> bool:
    """Whether it takes any number of states at a time; ModelError if it does not take them at all."""
    found = {
        "input": [(i.name, i.type, i.shape) for i in session.get_inputs()],
        "output": [(o.name, o.type, o.shape) for o in session.get_outputs()],
    }
    wanted = {"input": ("state", STATE_DIM), "output": ("q_values", N_ACTIONS)}
    for kind, (name, width) in wanted.items():
        ok = (
            len(found[kind]) == 1
            and found[kind][0][0] == name
            and found[kind][0][1] == "tensor(float)"
            and len(found[kind][0][2]) == 2
            and (found[kind][0][2][0] == 1 or not isinstance(found[kind][0][2][0], int))
            and found[kind][0][2][1] == width
        )
        if not ok:
            raise ModelError(
                f"{path}: needs one {kind} {name!r} float32[batch, {width}]; the file has "
                + (", ".join(f"{n!r} {t} {s}" for n, t, s in found[kind]) or "none")
            )
    return not isinstance(found["input"][0][2][0], int)


def _probes() -> NDArray[np.float32]:
    # SplitMix64, as in the compiled core: NumPy's generators would take 3 MB of every process.
    z = np.arange(1, N_PROBES * STATE_DIM + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    states = np.asarray((z >> np.uint64(40)) * 2.0**-24, np.float32).reshape(N_PROBES, STATE_DIM)
    ends = N_PROBES // 8
    states[:ends] = states[:ends] >= 0.5
    states[0], states[1] = 0.0, 1.0
    return states


def _answers(
    path: Path, session: Any, states: NDArray[np.float32], takes_batches: bool
) -> NDArray[np.float32]:
    """onnxruntime's Q-values; ModelError if it fails, or they are not finite."""
    step = _PROBE_BATCH if takes_batches else 1
    answers = np.empty((len(states), N_ACTIONS), np.float32)
    try:
        for at in range(0, len(states), step):
            batch = states[at : at + step]
            (found,) = session.run(["q_values"], {"state": batch})
            if found.shape != (len(batch), N_ACTIONS):
                raise ModelError(
                    f"{path}: answers with shape {found.shape} instead of ({len(batch)}, {N_ACTIONS})"
                )
            answers[at : at + step] = found
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
        raise ModelError(f"{path}: fails on a probe state: {_one_line(error)}") from error
    if not np.isfinite(answers).all():
        raise ModelError(f"{path}: Q-values are not finite on {N_PROBES} probe states")
    return answers


def _native(
    graph: Graph, states: NDArray[np.float32], answers: NDArray[np.float32]
) -> tuple[QNet | None, str | None]:
    """The compiled forward pass, or why there is none."""
    try:
        net = QNet(dense_layers(graph, STATE_DIM))
    except NotAChain as error:
        return None, f"not a chain of dense layers: {error}"
    except ValueError as error:
        return None, str(error)
    found = net(states)
    largest = np.abs(answers).max(axis=1, keepdims=True)
    scale = np.maximum(largest, np.median(largest))
    apart = np.abs(found - answers) > TOLERANCE * scale
    if not np.isfinite(found).all() or apart.any():
        n_apart = int(apart.any(axis=1).sum())
        return None, f"the compiled forward pass differs from onnxruntime on {n_apart} of {N_PROBES} states"
    # Where the two best are as good as equal, the last bits decide, and either may come first.
    best = np.take_along_axis(answers, found.argmax(axis=1)[:, None], axis=1)
    if (answers.max(axis=1, keepdims=True) - best > _TIE * scale).any():
        return None, "the compiled forward pass chooses other actions than onnxruntime"
    return net, None
