"""Files of set models, schema 2: weights by name, and answers on probe inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.setnet import SetNet
from itp._util.messages import brief
from itp.errors import ModelError
from itp.models.onnx import Graph
from itp.models.probes import apart, uniform
from itp.schema import CANDIDATE_FEATURES, CONTEXT_FEATURES, MAX_CANDIDATES, STREAM_FEATURES

_N_STREAMS = (1, 2, 3, 4, 6, 8, 16)
_N_DECISIONS = 24
"""Probe inputs for each number of streams."""

_PADDING = 2
"""Candidates without members that follow the others."""


def compiled(graph: Graph) -> SetNet:
    """The compiled forward pass with the file's weights.

    Raises
    ------
    ModelError
        The file is no set network: an array is missing, has another shape, or is not finite.
    """
    with np.errstate(all="ignore"):  # what is not finite as float32 is refused by SetNet
        arrays = {name: array.astype(np.float32) for name, array in graph.constants.items()}
    try:
        return SetNet(arrays)
    except ValueError as error:
        raise ModelError(
            f"no set network of schema 2: {error}; its weights must be initializers with the names that "
            "itp_training.export writes"
        ) from None


def verify(net: SetNet, session: Any) -> None:
    """Have both engines answer the probe inputs.

    Raises
    ------
    ModelError
        A run fails, answers are not finite, or the engines differ.
    """
    for n_streams in _N_STREAMS:
        streams, context, candidates, members = probes(n_streams)
        k = members.shape[1]
        marked = np.zeros((len(members), k + _PADDING, n_streams), np.float32)
        marked[:, :k] = (members[:, :, None] >> np.arange(n_streams, dtype=np.uint32)) & 1
        padded = np.pad(candidates, ((0, 0), (0, _PADDING), (0, 0)))
        given = {"streams": streams, "context": context, "candidates": padded, "members": marked}
        try:
            (answers,) = session.run(["values"], given)
        except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
            raise ModelError(f"fails on a probe of {n_streams} streams: {brief(error)}") from error
        if answers.shape != marked.shape[:2]:
            raise ModelError(f"answers {list(marked.shape[:2])} candidates with shape {list(answers.shape)}")
        answers, found = answers[:, :k], net(streams, context, candidates, members)
        if not (np.isfinite(answers).all() and np.isfinite(found).all()):
            raise ModelError(f"its values are not finite on probes of {n_streams} streams")
        if why := apart(answers, found):
            raise ModelError(f"no set network of schema 2: {why} of {n_streams} streams")


def probes(
    n_streams: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]:
    """Streams, context, candidates and members of decisions, the same ones always.

    Features are uniform over [-1.5, 1.5]. The first candidates are the single streams; up to six streams all
    other subsets follow, beyond, subsets at random.
    """
    k = min((1 << n_streams) - 1, MAX_CANDIDATES)
    sizes = (n_streams * STREAM_FEATURES, CONTEXT_FEATURES, k * CANDIDATE_FEATURES, k)
    drawn = uniform(_N_DECISIONS * sum(sizes), seed=n_streams).reshape(_N_DECISIONS, -1)
    streams, context, candidates, subset = np.split(drawn, np.cumsum(sizes)[:-1], axis=1)
    singles = np.uint32(1) << np.arange(n_streams, dtype=np.uint32)
    if n_streams <= 6:
        rest = np.setdiff1d(np.arange(1, 1 << n_streams, dtype=np.uint32), singles)
        members = np.tile(np.concatenate([singles, rest]), (_N_DECISIONS, 1))
    else:
        members = 1 + (subset * ((1 << n_streams) - 1)).astype(np.uint32)
        members[:, :n_streams] = singles
    return (
        _scaled(streams).reshape(_N_DECISIONS, n_streams, STREAM_FEATURES),
        _scaled(context),
        _scaled(candidates).reshape(_N_DECISIONS, k, CANDIDATE_FEATURES),
        np.ascontiguousarray(members),
    )


def _scaled(drawn: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(3.0 * drawn - 1.5, np.float32)
