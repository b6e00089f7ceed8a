"""Models as policies in simulated worlds: each decides as a ``TaskPartitioner`` with it would.

A model is named by its shipped name or by the path of its file, which ends in ``.onnx``. Suffixes change how
it is served: ``:no-guard`` sets its guard aside; ``:hard-deadlines`` and ``:soft-deadlines``, in the last
place, close or leave open the actions that are planned to miss a deadline, whatever its metadata say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from itp._core.choose import Guard
from itp._core.decider import Served
from itp.errors import ModelError
from itp.models.load import find_model, load_model, shipped_models
from itp.models.serving import serve
from itp.policies.base import HARD_DEADLINES
from itp.schema import MODEL_STREAMS
from itp.sim.choice import Choice
from itp.sim.scenario import Scenario
from itp.sim.simulator import Simulator

__all__ = [
    "NO_GUARD",
    "SOFT_DEADLINES",
    "ModelPolicy",
    "ServedPolicy",
    "is_model",
    "model_of",
    "name_apart",
    "policy_of",
]

NO_GUARD = ":no-guard"
SOFT_DEADLINES = ":soft-deadlines"
_SUFFIX = ".onnx"


class ServedPolicy:
    """What a ``TaskPartitioner`` decides by a model in use: the same engine, guard and compiled decision.

    Parameters
    ----------
    served : Served, optional
        Without, a subclass sets it in `begin`.
    guard : bool
        Heed the model's guard.
    hard_deadlines : bool, optional
        Close the actions that are planned to miss the deadline while another one meets it; None: as the
        model's metadata say.

    Attributes
    ----------
    name : str
    heeds_guard : bool
    """

    def __init__(
        self, served: Served | None = None, *, guard: bool = True, hard_deadlines: bool | None = None
    ) -> None:
        self.name = "" if served is None else served.version
        self.heeds_guard = guard
        self.hard_deadlines = hard_deadlines
        self._served = served

    @property
    def has_guard(self) -> bool:
        """Whether the model in use has a guard that is heeded."""
        return self._guard is not None

    @property
    def _guard(self) -> Guard | None:
        return self._served.guard if self._served is not None and self.heeds_guard else None

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        served = self._served
        if served is None:
            raise RuntimeError("begin() comes before act()")
        return sim.decide(
            served.q_values(sim.states),
            guard=self._guard,
            hard_deadlines=served.hard_deadlines if self.hard_deadlines is None else self.hard_deadlines,
            source=served.engine,
        )


class ModelPolicy(ServedPolicy):
    """A model by its name or path, loaded by `begin`.

    Parameters
    ----------
    model : str or path
        A shipped name or an ``.onnx`` file; its variant for the simulator's service order is taken.
    guard, hard_deadlines
        As for ``ServedPolicy``.
    name : str, optional
        Without: the file's stem, with its suffixes.

    Attributes
    ----------
    path : Path
    named : bool
        The name was given; another one may change, to tell files of one name apart.
    spec : str
        What `itp.policies.make` makes this policy of.

    Notes
    -----
    It can be pickled; the model is loaded anew by `begin`, which raises ModelError if it cannot serve.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        guard: bool = True,
        hard_deadlines: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(guard=guard, hard_deadlines=hard_deadlines)
        deadlines = {None: "", True: HARD_DEADLINES, False: SOFT_DEADLINES}[hard_deadlines]
        self.suffix = suffix = ("" if guard else NO_GUARD) + deadlines
        self.path = Path(os.path.abspath(find_model(model)))
        self.spec = os.fspath(model) + suffix
        # A shipped model is known by its name, whatever files are called.
        self.named = name is not None or os.fspath(model) in shipped_models()
        self.name = name or self.path.stem + suffix

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_served": None}

    def load(self, scenario: Scenario) -> None:
        """Load the model for this scenario's service order.

        Raises
        ------
        ModelError
            It cannot serve here.
        """
        if scenario.n_streams != MODEL_STREAMS:
            raise ModelError(
                f"{self.path}: models decide over {MODEL_STREAMS} streams; "
                f"{scenario.name} has {scenario.n_streams}"
            )
        self._served = serve(load_model(self.path, scenario.service_order))

    def begin(self, sim: Simulator) -> None:
        self.load(sim.scenario)
        super().begin(sim)


def model_of(spec: str) -> str:
    """The model's name or path in a text."""
    return _parts(spec)[0]


def policy_of(spec: str) -> ModelPolicy:
    """The policy that a text names; ModelError if there is no such model."""
    model, guard, hard_deadlines = _parts(spec)
    return ModelPolicy(model, guard=guard, hard_deadlines=hard_deadlines)


def _parts(spec: str) -> tuple[str, bool, bool | None]:
    """The model of a text, whether its guard is heeded, and whether deadlines are hard."""
    hard_deadlines = None
    for suffix, hard in ((HARD_DEADLINES, True), (SOFT_DEADLINES, False)):
        if spec.endswith(suffix):
            spec, hard_deadlines = spec.removesuffix(suffix), hard
            break
    return spec.removesuffix(NO_GUARD), not spec.endswith(NO_GUARD), hard_deadlines


def is_model(spec: str) -> bool:
    """Whether a text names a model: a shipped one, or a path that ends in ``.onnx``."""
    model = model_of(spec)
    return model.endswith(_SUFFIX) or model in shipped_models()


def name_apart(models: Iterable[ModelPolicy], taken: Iterable[str]) -> None:
    """Name models of one file name, or of another policy's, by as much of their paths as tells them apart.

    Those whose name was chosen keep it.
    """
    given = list(models)
    chosen = {*taken, *(model.name for model in given if model.named)}
    paths = {model.path for model in given}
    for model in given:
        if model.named:
            continue
        others = paths - {model.path}
        for depth in range(1, len(model.path.parts) + 1):
            name = _tail(model.path, depth)
            if name not in chosen and all(_tail(other, depth) != name for other in others):
                break
        model.name = name + model.suffix


def _tail(path: Path, depth: int) -> str:
    return "/".join(path.with_suffix("").parts[-depth:])
