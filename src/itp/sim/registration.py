"""Gymnasium's registry learns of ``itp/Partition-v0``; the environment itself is loaded when made.

Gymnasium 1.x looks for no plug-ins: somebody has to tell it. ``import itp`` does where Gymnasium has
been imported before, ``import itp.sim.gym`` always; ``gymnasium.make("itp.sim.gym:itp/Partition-v0")`` needs
neither.
"""

from __future__ import annotations

ENV_ID = "itp/Partition-v0"


def register() -> None:
    """Register the environments, once; imports Gymnasium."""
    import gymnasium

    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            ENV_ID,
            entry_point="itp.sim.gym:PartitionEnv",
            vector_entry_point="itp.sim.gym:PartitionVectorEnv",
        )
