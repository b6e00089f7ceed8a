"""Models as policies in simulated worlds: each decides as a ``TaskPartitioner`` with it would."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from itp._core.choose import Cap, Guard
from itp._core.decider import Served
from itp.errors import ModelError
from itp.models.load import find_model, load_model, shipped_models
from itp.models.serving import serve
from itp.models.spec import ModelSpec, parse
from itp.schema import MODEL_STREAMS, SCHEMA, SET_SCHEMA
from itp.sim.choice import Choice
from itp.sim.scenario import Scenario
from itp.sim.simulator import Simulator

__all__ = ["ModelPolicy", "ServedPolicy", "name_apart", "policy_of"]


class ServedPolicy:
    """What a ``TaskPartitioner`` decides by a model in use: the same engine, guard and compiled decision.

    Parameters
    ----------
    served : Served, optional
        Without, a subclass sets it in `begin`.
    guard : bool
        Heed the model's guard; of schema 2, its cap and support.
    hard_deadlines : bool, optional
        Close the actions that are planned to miss the deadline while another one meets it; None: as the
        model's metadata say.
    prefer : {"typical", "balanced", "bulk"} or float, optional
        What a model of schema 2 decides for; None: balanced.

    Attributes
    ----------
    name : str
    heeds_guard : bool
    """

    def __init__(
        self,
        served: Served | None = None,
        *,
        guard: bool = True,
        hard_deadlines: bool | None = None,
        prefer: str | float | None = None,
    ) -> None:
        self.name = "" if served is None else served.version
        self.heeds_guard = guard
        self.hard_deadlines = hard_deadlines
        self.prefer = prefer
        self._served: Served | None = None
        if served is not None:
            self._serve(served)

    @property
    def has_guard(self) -> bool:
        """Whether the model in use has a guard, or a cap, that is heeded."""
        served = self._served
        if served is None or not self.heeds_guard:
            return False
        return served.schema == SET_SCHEMA or served.guard is not None

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        served = self._served
        if served is None:
            raise RuntimeError("begin() comes before act()")
        hard = served.hard_deadlines if self.hard_deadlines is None else self.hard_deadlines
        if served.schema == SET_SCHEMA:
            sim.prefer(self._preference(served))
            return sim.decide_sets(served, hard_deadlines=hard)
        guard: Guard | None = served.guard if self.heeds_guard else None
        support = served.workload if self.heeds_guard else None
        values = served.q_values(sim.states)
        return sim.decide(values, guard=guard, support=support, hard_deadlines=hard, source=served.engine)

    def _serve(self, served: Served) -> None:
        """Decide by this model from now on."""
        if served.schema == SCHEMA and self.prefer is not None:
            raise ModelError(f"{served.version} has schema 1: it knows no preference such as {self.prefer}")
        if served.schema == SET_SCHEMA and not self.heeds_guard:
            served = Served(
                served.version,
                set_net=served.set_net,
                cap=Cap(idle_factor=math.inf, factor=math.inf),
                calibration=served.calibration,
                hard_deadlines=served.hard_deadlines,
                preferences=served.preferences,
            )
        self._served = served

    def _preference(self, served: Served) -> float:
        if isinstance(self.prefer, (int, float)):
            return self.prefer
        return served.preferences[self.prefer or "balanced"]


class ModelPolicy(ServedPolicy):
    """A model by its name or path, loaded by `begin`.

    Parameters
    ----------
    model : str or path
        A shipped name or an ``.onnx`` file; its variant for the simulator's service order is taken.
    guard, hard_deadlines, prefer
        As for ``ServedPolicy``.
    name : str, optional
        Without: the file's stem, with the options behind it.

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
        prefer: str | float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(guard=guard, hard_deadlines=hard_deadlines, prefer=prefer)
        spec = ModelSpec(model=os.fspath(model), guard=guard, hard_deadlines=hard_deadlines, prefer=prefer)
        self.suffix = spec.suffix
        self.path = Path(os.path.abspath(find_model(model)))
        self.spec = str(spec)
        # A shipped model is known by its name, whatever files are called.
        self.named = name is not None or spec.model in ("default", *shipped_models())
        self.name = name or self.path.stem + self.suffix

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_served": None}

    def load(self, scenario: Scenario) -> None:
        """Load the model for this scenario's service order.

        Raises
        ------
        ModelError
            It cannot serve here.
        """
        loaded = load_model(self.path, scenario.service_order)
        if loaded.schema == SCHEMA and scenario.n_streams != MODEL_STREAMS:
            raise ModelError(
                f"{self.path}: models of schema 1 decide over {MODEL_STREAMS} streams; "
                f"{scenario.name} has {scenario.n_streams}"
            )
        try:
            self._serve(serve(loaded))
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None

    def begin(self, sim: Simulator) -> None:
        self.load(sim.scenario)
        super().begin(sim)


def policy_of(text: str) -> ModelPolicy:
    """The policy that a model's name with options stands for: see ``itp.models.spec``.

    Raises
    ------
    ModelError
        There is no such model.
    ValueError
        An option is wrong.
    """
    spec = parse(text)
    return ModelPolicy(spec.model, guard=spec.guard, hard_deadlines=spec.hard_deadlines, prefer=spec.prefer)


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
