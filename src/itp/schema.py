"""The numbers that state, actions, models and logs agree on, each once.

State schema 1 describes four streams by 20 numbers; a model of it chooses among 15 actions, which
``itp.actions`` names.
"""

from __future__ import annotations

from itp._core.alloc import MIN_CHUNK_BYTES
from itp._core.decider import STATE_DIM
from itp._core.decision import SOURCES
from itp._core.order import SERVICE_ORDERS
from itp._core.state import MAX_STREAMS, SCHEMA
from itp.actions import N_ACTIONS

__all__ = [
    "MAX_STREAMS",
    "MIN_CHUNK_BYTES",
    "MODEL_STREAMS",
    "N_ACTIONS",
    "SCHEMA",
    "SERVICE_ORDERS",
    "SOURCES",
    "STATE_DIM",
    "state_dim",
]

MODEL_STREAMS = 4
"""Streams that a model of schema 1 decides over."""


def state_dim(n_streams: int) -> int:
    """Numbers of the state vector of n streams."""
    return 4 * n_streams + 4
