"""Gymnasium's registry learns of ``itp/Partition-v0`` and ``-v1``; the environments are loaded when made.

Gymnasium 1.x looks for no plug-ins: somebody has to tell it. ``import itp`` does where Gymnasium has
been imported before, ``import itp.sim.gym`` always; ``gymnasium.make("itp.sim.gym:itp/Partition-v0")`` needs
neither.
"""

from __future__ import annotations

# The environments, single and vectorized, by version.
_ENVS = {
    "itp/Partition-v0": ("PartitionEnv", "PartitionVectorEnv"),
    "itp/Partition-v1": ("SetPartitionEnv", "SetPartitionVectorEnv"),
}


def register() -> None:
    """Register the environments, once; imports Gymnasium."""
    import gymnasium

    for env_id, (single, many) in _ENVS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id, entry_point=f"itp.sim.gym:{single}", vector_entry_point=f"itp.sim.gym:{many}"
            )
