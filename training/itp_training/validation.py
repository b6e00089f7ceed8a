"""How good the network is now, in worlds that are neither trained nor tested on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from itp import Simulator, policies
from itp._core.choose import Guard
from itp.sim.choice import Choice
from itp_training.collect import VALIDATION_SEED, training_scenario
from itp_training.config import TrainingConfig
from itp_training.network import QNetwork

WORLDS = 128


class NetworkPolicy:
    """Decides by a network that is in evaluation mode, as a policy."""

    name = "network"

    def __init__(self, network: nn.Module, device: torch.device, guard: Guard | None = None) -> None:
        self.network = network
        self.device = device
        self.guard = guard

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        with torch.inference_mode():
            values = self.network(torch.from_numpy(sim.states).to(self.device)).cpu().numpy()
        return sim.decide(values, guard=self.guard)


class Validation:
    """Geometric-mean slowdown in the same worlds every time."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.scenario = training_scenario(config)
        self.device = device
        self.seeds: NDArray[np.uint64] = np.arange(WORLDS, dtype=np.uint64) + np.uint64(VALIDATION_SEED)

    def slowdown(self, network: QNetwork) -> float:
        """Of the network's greedy policy."""
        return self.of_policy(NetworkPolicy(network, self.device))

    def of_policy(self, policy: policies.Policy) -> float:
        """Of any policy."""
        sim = Simulator(self.scenario, seeds=self.seeds)
        policy.begin(sim)
        return float(np.exp(policies.mean_log_slowdown(policies.run(sim, policy))))
