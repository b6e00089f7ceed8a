"""Trained models as policies: what they decide in a simulator, guard and all.

A model is named by its shipped name or by the path of its file, which ends in ``.onnx``; with
``:hard-deadlines`` behind it, actions that would miss a deadline which another one meets are closed to it, as
they are in a ``TaskPartitioner`` (it was trained to weigh deadlines, not to obey them); with ``:no-guard``
behind that its guard stands aside.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itp._core.decide import Guard
from itp.errors import ModelError
from itp.models.load import find_model, load_model, shipped_models
from itp.policies.base import Choice
from itp.sim.scenario import Scenario
from itp.sim.simulator import Simulator, masks_of_actions

__all__ = [
    "HARD_DEADLINES",
    "NO_GUARD",
    "ModelPolicy",
    "choose",
    "is_model",
    "model_of",
    "name_apart",
    "policy_of",
]

NO_GUARD = ":no-guard"
HARD_DEADLINES = ":hard-deadlines"
_SUFFIX = ".onnx"
_MODEL_STREAMS = 4
_WATER_FILLING = 0


class ModelPolicy:
    """The open action of the greatest Q-value, by water-filling; a guard may put a rule's in its place.

    Parameters
    ----------
    model : str or path
        A shipped name or an ``.onnx`` file; its variant for the simulator's service order is taken.
    guard : bool
        Heed the guard in the model's metadata.
    hard_deadlines : bool
        Close the actions that are planned to miss the deadline, where another one is not.
    name : str, optional
        Without: the file's stem, with ``:no-guard`` or ``:hard-deadlines`` behind it.

    Attributes
    ----------
    name : str
    path : Path
    named : bool
        The name was given; another one may change, to tell files of one name apart.
    heeds_guard : bool
    spec : str
        What `itp.policies.rules.make` makes this policy of.
    decisions, guarded : int
        Since `begin`: decisions made, and those that the guard gave to the rule.
    overruled : ndarray
        bool[n_envs]: where the guard decided at the last `act`.

    Notes
    -----
    It can be pickled; the model is loaded anew by `begin`, which raises ModelError if it cannot serve.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        guard: bool = True,
        hard_deadlines: bool = False,
        name: str | None = None,
    ) -> None:
        self.suffix = suffix = ("" if guard else NO_GUARD) + (HARD_DEADLINES if hard_deadlines else "")
        self.path = Path(os.path.abspath(find_model(model)))
        self.spec = os.fspath(model) + suffix
        # A shipped model is known by its name, whatever files are called.
        self.named = name is not None or os.fspath(model) in shipped_models()
        self.name = name or self.path.stem + suffix
        self.heeds_guard = guard
        self.hard_deadlines = hard_deadlines
        self.decisions = self.guarded = 0
        self.overruled = np.zeros(0, dtype=np.bool_)
        self._guard: Guard | None = None
        self._session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None, "_guard": None}

    @property
    def has_guard(self) -> bool:
        """Whether a guard stands by, as `begin` found it."""
        return self._guard is not None

    def load(self, scenario: Scenario) -> None:
        """Load the model for this scenario's service order.

        Raises
        ------
        ModelError
            It cannot serve here.
        """
        if scenario.n_streams != _MODEL_STREAMS:
            raise ModelError(
                f"{self.path}: models decide over {_MODEL_STREAMS} streams; "
                f"{scenario.name} has {scenario.n_streams}"
            )
        model = load_model(self.path, scenario.service_order)
        if not model.takes_batches:
            raise ModelError(f"{model.path}: takes one state at a time; export it with a batch of any size")
        self._session = model.session
        self._guard = model.guard if self.heeds_guard else None

    def begin(self, sim: Simulator) -> None:
        self.load(sim.scenario)
        self.decisions = self.guarded = 0

    def act(self, sim: Simulator) -> Choice:
        q_values = self._session.run(["q_values"], {"state": sim.states})[0]
        masks, self.overruled = choose(sim, q_values, self._guard, hard_deadlines=self.hard_deadlines)
        self.decisions += int((~sim.done).sum())
        self.guarded += int(self.overruled.sum())
        return masks, np.full(sim.n_envs, _WATER_FILLING, dtype=np.int32)


def choose(
    sim: Simulator, q_values: NDArray[np.float32], guard: Guard | None, *, hard_deadlines: bool = False
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The masks of the open actions of the greatest values[n_envs, 15], and where the guard overruled."""
    sets, open_to = masks_of_actions(sim.n_streams), sim.action_masks
    if hard_deadlines:
        planned_s = sim.expected_times(np.broadcast_to(sets, q_values.shape))
        meets = open_to & (planned_s <= sim.waiting()["deadline_s"][:, None])
        open_to = np.where(meets.any(axis=1, keepdims=True), meets, open_to)
    masks = sets[np.where(open_to, q_values, -np.inf).argmax(axis=1)]
    if guard is None:
        return masks, np.zeros(sim.n_envs, dtype=np.bool_)
    of_rule = sim.choose(guard.rule)[0]
    planned_s = sim.expected_times(np.stack([masks, of_rule], axis=1))
    overruled = ~sim.done & (planned_s[:, 0] > guard.threshold * planned_s[:, 1])
    return np.where(overruled, of_rule, masks), overruled


def model_of(spec: str) -> str:
    """The model's name or path in a text."""
    return spec.removesuffix(NO_GUARD).removesuffix(HARD_DEADLINES)


def policy_of(spec: str) -> ModelPolicy:
    """The policy that a text names; ModelError if there is no such model."""
    return ModelPolicy(
        model_of(spec), guard=not spec.endswith(NO_GUARD), hard_deadlines=spec.endswith(HARD_DEADLINES)
    )


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
