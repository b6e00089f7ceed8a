"""The policies by name: the classical ones, the clairvoyant, and models."""

from __future__ import annotations

import difflib

from itp._core.heuristic import AUTO
from itp.models.load import shipped_models
from itp.models.spec import HARD_DEADLINES, is_model
from itp.policies.base import Policy
from itp.policies.rules import Oracle, Random, Rule
from itp.policies.served import policy_of
from itp.policies.tuned import LinUcb, SizeInterval
from itp.sim.simulator import RULES

CLASSICAL = (
    "round_robin",
    "random",
    "equal_split",
    "proportional",
    "score",
    "single_best",
    "min_rtt",
    "least_completion_time",
    "least_completion_time_proportional",
    "size_interval",
    "pull",
    "linucb",
)
"""Rules that go by the streams alone, or are fitted to the scenario before: models are held against these."""

TUNED = ("size_interval", "linucb")
"""Of these, the ones that are fitted to the very scenario before they are evaluated in it."""

ADAPTIVE = ("adaptive_size_interval", "first_policy_iteration", "least_marginal_cost")
"""Rules that go by the sizes and gaps of the latest tasks, too."""

NAMES = (*CLASSICAL, *ADAPTIVE, "oracle")


def make(name: str) -> Policy:
    """The policy of this name, or of this model: see ``itp.models.spec``.

    Raises
    ------
    ValueError
        There is none, and the message says which there are; or an option behind a model's name is wrong.
    ModelError
        No file of a model is there.
    """
    rule = name.removesuffix(HARD_DEADLINES)
    if rule in RULES:
        return Rule(rule, hard_deadlines=rule != name)
    if name == "random":
        return Random()
    if name == "size_interval":
        return SizeInterval()
    if name == "linucb":
        return LinUcb()
    if name == "oracle":
        return Oracle()
    if is_model(name):
        return policy_of(name)
    known = (*NAMES, AUTO, *shipped_models())
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"no policy is named {name!r}{hint} There are: {', '.join(known)}, and .onnx files")
