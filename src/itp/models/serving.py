"""A loaded model put to use: what a decider needs of it, and nothing else."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from itp._core.choose import Cap, Support
from itp._core.decider import Served
from itp._util.messages import brief
from itp.models.onnxruntime import bound_slot, run_batch

if TYPE_CHECKING:
    from itp.models.load import Model

log = logging.getLogger("itp")


def serve(model: Model) -> Served:
    """Put a model to use; the log says why onnxruntime serves it, if it does, and how it answers batches.

    The compiled forward pass needs no session: that is freed with `model`.
    """
    if model.why_not_native is not None:
        log.warning("%s: served by onnxruntime: %s", model.path, model.why_not_native)
    if model.why_one_by_one is not None:
        log.warning("%s: batches are computed state by state: %s", model.path, model.why_one_by_one)
    computed_by: dict[str, Any] = {"net": model.net, "set_net": model.set_net}
    if model.net is None and model.set_net is None:
        computed_by = {
            "make_slot": partial(bound_slot, model.session),
            "run_batch": None if model.why_one_by_one is not None else partial(run_batch, model.session),
            "on_failure": partial(_log_failure, model.version),
        }
    support = model.support
    return Served(
        model.version,
        **computed_by,
        calibration=model.calibration,
        guard=model.guard,
        workload=model.workload,
        hard_deadlines=model.hard_deadlines,
        cap=None if model.cap is None else Cap(**asdict(model.cap)),
        support=None if support is None else Support(support.streams, support.context, support.candidates),
        preferences=asdict(model.preferences),
    )


def _log_failure(version: str, error: Exception) -> None:
    log.warning("model %s failed, the heuristic decides: %s", version, brief(error))
