"""Policies in simulated worlds: classical rules, tuned ones, models as they are served, a clairvoyant."""

from itp.policies.base import TEST_SEED, TRAINING_SEED, Policy
from itp.policies.episodes import Rollout, mean_log_slowdown, rollout, rollouts, run
from itp.policies.names import ADAPTIVE, CLASSICAL, NAMES, make
from itp.policies.rules import Oracle, Random, Rule
from itp.policies.served import ModelPolicy
from itp.policies.tuned import LinUcb, SizeInterval
from itp.sim.choice import Choice

__all__ = [
    "ADAPTIVE",
    "CLASSICAL",
    "NAMES",
    "TEST_SEED",
    "TRAINING_SEED",
    "Choice",
    "LinUcb",
    "ModelPolicy",
    "Oracle",
    "Policy",
    "Random",
    "Rollout",
    "Rule",
    "SizeInterval",
    "make",
    "mean_log_slowdown",
    "rollout",
    "rollouts",
    "run",
]
