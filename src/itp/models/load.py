"""A model file: ONNX with metadata inside and, as JSON, beside it; loading verifies all of it.

Keys of the metadata that loading reads, each optional: ``schema`` (1: Q-values of a state of four streams;
2: values of candidate sets of any number of streams), ``sha256`` (of the ONNX file; beside it only), and
those of ``itp.models.metadata``. A model of schema 1 for the service order ``fifo`` may have a variant for
``srpt`` beside it: ``NAME-srpt.onnx``; one of schema 2 serves both orders.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itp._core.calibration import Calibration
from itp._core.choose import Guard, WorkloadSupport
from itp._core.qnet import QNet
from itp._core.setnet import SetNet
from itp._util.messages import brief
from itp._util.terminal import printable
from itp.errors import ModelError, SchemaError
from itp.models import metadata as metadata_of
from itp.models.metadata import Cap, Preferences, Support
from itp.models.onnx import Graph, read_graph
from itp.models.onnxruntime import open_session
from itp.models.operators import MAX_MODEL_BYTES, check_operators
from itp.models.setmodel import compiled
from itp.models.setmodel import verify as verify_set
from itp.models.signature import check_q_signature, check_set_signature, likely_schema
from itp.models.verification import verify
from itp.schema import SCHEMAS, SET_SCHEMA

log = logging.getLogger("itp")

MAX_METADATA_BYTES = 16 * 2**20
VARIANT = "-srpt"
DEFAULT_MODEL = "set_v2"
"""The shipped model that the name "default" stands for: any number of streams, both service orders."""

SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A verified model, as loaded; ``itp.models.serving`` puts it to use.

    Attributes
    ----------
    schema : {1, 2}
    path : Path
    version : str
        From the metadata, or the file's stem and the first digits of its SHA-256.
    sha256 : str
    metadata : dict
    service_order : str or None
        The one it was trained for; None if it does not say.
    calibration : Calibration or None
        Tables of expected time and confidence.
    guard : Guard or None
    hard_deadlines : bool
        Actions that are planned to miss a deadline are closed while another one meets it.
    session : onnxruntime.InferenceSession
        One thread, sequential, on the CPU.
    takes_batches : bool
        The file takes any number of states in a run, not one alone.
    net : QNet or None
        The compiled forward pass, checked against `session`; it computes all answers. None: `session` does.
    why_not_native : str or None
        Why there is no `net`, though the engine asked for would take one.
    why_one_by_one : str or None
        Why `session` has to compute a batch state by state; None where a batch gives the same bits, or where
        `net` computes.
    set_net : SetNet or None
        Of schema 2: the compiled forward pass, checked against `session`.
    preferences : Preferences
        Of schema 2: what the names of preferences stand for.
    cap : Cap or None
        Of schema 2: how much longer than the rule a decision may plan.
    support : Support or None
        Of schema 2: the range of inputs it was trained on.
    workload : WorkloadSupport or None
        Of schema 1: the workloads it was trained on.
    """

    schema: int
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
    why_one_by_one: str | None = None
    set_net: SetNet | None = field(repr=False, default=None)
    preferences: Preferences = field(default_factory=Preferences)
    cap: Cap | None = None
    support: Support | None = field(repr=False, default=None)
    workload: WorkloadSupport | None = None


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
    path = Path(DEFAULT_MODEL if model == "default" else model)
    given = brief(repr(os.fspath(model)))
    try:
        if path.suffix != ".onnx" and (SHIPPED / f"{path}.onnx").is_file():
            path = SHIPPED / f"{path}.onnx"
        if path.is_dir():
            inside = " or ".join(os.fspath(file) for file in sorted(path.glob("*.onnx")))
            raise ModelError(f"{given} is a folder; pass {inside or 'the path of an .onnx file'}")
        if not path.is_file():
            names = ", ".join(shipped_models()) or "none"
            raise ModelError(
                f"no model at {given}: it is neither a file nor a shipped model ({names}); "
                "pass the path of an .onnx file, or model=None for the heuristic"
            )
        variant = path.with_name(f"{path.stem}{VARIANT}.onnx")
        return variant if service_order == "srpt" and variant.is_file() else path
    except OSError as error:
        raise ModelError(f"{given}: cannot be read: {error.strerror or error}") from error


def load_model(model: str | os.PathLike[str], service_order: str = "fifo", *, engine: str = "auto") -> Model:
    """Load a model and verify file, metadata, schema, operators, shapes and answers on probe states.

    Where it has a variant for `service_order`, that is loaded; one that was trained for another order is
    loaded with a warning in the log.

    Parameters
    ----------
    model : str or path
        A shipped name or the path of an ONNX file.
    service_order : {"fifo", "srpt"}
    engine : {"auto", "native", "onnxruntime"}
        What is to compute the answers; "auto" is native, the compiled forward pass, where the graph is a
        chain of dense layers or a set network, and else onnxruntime. A model of schema 2 is native always.

    Raises
    ------
    ModelError
        Missing, too large, corrupt, truncated, of the wrong shape; its answers are not finite, or depend on
        more than the state; the engine is "native", and the graph is no chain, or "onnxruntime", and the
        model is of schema 2.
    SchemaError
        Made for another state schema.
    """
    path = find_model(model, service_order)
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    beside = _metadata_beside(path.with_suffix(".json"))
    expected = beside.get("sha256", sha256)
    if expected != sha256:
        raise ModelError(
            f"{path}: SHA-256 is {sha256}, but {path.with_suffix('.json').name} says {brief(expected, 80)}"
        )
    with _naming(path):
        # First of all: content that claims more than it holds must not reach onnxruntime.
        graph = read_graph(content)
        check_operators(graph)
        session = open_session(content)
        inside = _metadata_inside(session)
    metadata = {**inside, **beside}
    schema = _schema(path, session, inside, beside)
    version = metadata_of.version(metadata, str(path)) or _default_version(path, sha256)
    trained_for = metadata_of.service_order(metadata, str(path))
    if trained_for not in (None, service_order):
        log.warning("%s: trained for %s; the streams are served by %s", path, trained_for, service_order)
    read = _read_set_model if schema == SET_SCHEMA else _read_q_model
    return Model(
        schema=schema,
        path=path,
        version=version,
        sha256=sha256,
        metadata=metadata,
        service_order=trained_for,
        calibration=metadata_of.calibration(metadata, str(path)),
        hard_deadlines=metadata_of.hard_deadlines(metadata, str(path)),
        session=session,
        **read(path, graph, session, metadata, engine),
    )


def _schema(path: Path, session: Any, inside: dict[str, Any], beside: dict[str, Any]) -> int:
    """The schema that the metadata name, or the one that the inputs look like."""
    given = [part["schema"] for part in (inside, beside) if "schema" in part]
    for schema in given:
        if type(schema) is not int or schema not in SCHEMAS:
            raise SchemaError(
                f"{path}: made for state schema {brief(schema, 40)}; "
                f"this version has schemas {' and '.join(map(str, SCHEMAS))}"
            )
        if schema != given[0]:
            raise SchemaError(
                f"{path}: made for state schema {given[0]} by the metadata inside, {schema} beside"
            )
    if given:
        return int(given[0])
    schema = likely_schema(session)
    log.warning("%s: no schema in its metadata; taken as schema %d", path, schema)
    return schema


def _read_q_model(
    path: Path, graph: Graph, session: Any, metadata: dict[str, Any], engine: str
) -> dict[str, Any]:
    """What a Model of schema 1 has beyond what both schemas have."""
    guard = metadata_of.guard(metadata, str(path))
    with _naming(path):
        takes_batches = check_q_signature(session)
        verified = verify(graph, session, takes_batches=takes_batches, native=engine != "onnxruntime")
        if engine == "native" and verified.net is None:
            raise ModelError(
                f"engine='native' cannot serve it: {verified.why_not_native}; "
                "engine='auto' serves it by onnxruntime"
            )
    return {
        "guard": guard,
        "workload": metadata_of.workload(metadata, str(path)),
        "takes_batches": takes_batches,
        "net": verified.net,
        "why_not_native": verified.why_not_native,
        "why_one_by_one": verified.why_one_by_one,
    }


def _read_set_model(
    path: Path, graph: Graph, session: Any, metadata: dict[str, Any], engine: str
) -> dict[str, Any]:
    """What a Model of schema 2 has beyond what both schemas have."""
    fitted = {
        "preferences": metadata_of.preferences(metadata, str(path)),
        "cap": metadata_of.cap(metadata, str(path)),
        "support": metadata_of.support(metadata, str(path)),
    }
    with _naming(path):
        if engine == "onnxruntime":
            raise ModelError("engine='onnxruntime' serves models of schema 1; engine='auto' serves this one")
        check_set_signature(session)
        net = compiled(graph)
        verify_set(net, session)
    return {"takes_batches": True, "set_net": net, **fitted}


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's path before the text of a ModelError."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__
    except UnicodeDecodeError as error:  # by onnxruntime, when its names are read
        raise ModelError(
            f"{path}: not a valid ONNX model: a text in it is not UTF-8: {brief(error)}"
        ) from error


def _content(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: {size_bytes} bytes; a model has at most {MAX_MODEL_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _default_version(path: Path, sha256: str) -> str:
    most = metadata_of.MAX_VERSION_BYTES - 9
    return f"{printable(path.stem).encode()[:most].decode(errors='ignore')}-{sha256[:8]}"


def _metadata_beside(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            if path.exists():
                raise ModelError(f"{path}: the metadata must be a file")
            return {}
        size_bytes = path.stat().st_size
        if size_bytes > MAX_METADATA_BYTES:
            raise ModelError(f"{path}: {size_bytes} bytes; metadata has at most {MAX_METADATA_BYTES}")
        metadata = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the metadata cannot be read: {brief(error)}") from error
    if not isinstance(metadata, dict):
        raise ModelError(f"{path}: the metadata must be a JSON object")
    return metadata


def _metadata_inside(session: Any) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get("itp")
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the metadata inside cannot be read: {brief(error)}") from error
    if not isinstance(metadata, dict):
        raise ModelError("the metadata inside must be a JSON object")
    return metadata
