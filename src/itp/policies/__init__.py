"""Policies in simulated worlds: classical rules, tuned ones, models as they are served, a clairvoyant."""

from itp.policies.base import TEST_SEED, TRAINING_SEED, Choice, Policy
from itp.policies.episodes import Rollout, mean_log_slowdown, rollouts, run
from itp.policies.names import CLASSICAL, NAMES, make
from itp.policies.rules import Oracle, Rule
from itp.policies.served import ModelPolicy
from itp.policies.tuned import LinUcb, SizeInterval

__all__ = [
    "CLASSICAL",
    "NAMES",
    "TEST_SEED",
    "TRAINING_SEED",
    "Choice",
    "LinUcb",
    "ModelPolicy",
    "Oracle",
    "Policy",
    "Rollout",
    "Rule",
    "SizeInterval",
    "make",
    "mean_log_slowdown",
    "rollouts",
    "run",
]
