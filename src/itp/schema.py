"""The numbers that state, actions, models and logs agree on, each once.

State schema 1 describes four streams by 20 numbers; a model of it chooses among 15 actions, which
``itp.actions`` names. Schema 2 describes any number of streams, the context and every candidate set of
streams by features (``itp._core.features`` names them); a model of it gives each candidate a value.
"""

from __future__ import annotations

from itp._core.alloc import MIN_CHUNK_BYTES
from itp._core.decider import STATE_DIM
from itp._core.decision import SOURCES
from itp._core.features import CANDIDATE_NAMES, CONTEXT_NAMES, STREAM_NAMES
from itp._core.order import SERVICE_ORDERS
from itp._core.setnet import MAX_CANDIDATES
from itp._core.state import MAX_STREAMS, SCHEMA
from itp.actions import N_ACTIONS

__all__ = [
    "CANDIDATE_FEATURES",
    "CONTEXT_FEATURES",
    "MAX_CANDIDATES",
    "MAX_STREAMS",
    "MIN_CHUNK_BYTES",
    "MODEL_STREAMS",
    "N_ACTIONS",
    "SCHEMA",
    "SCHEMAS",
    "SERVICE_ORDERS",
    "SET_SCHEMA",
    "SOURCES",
    "STATE_DIM",
    "STREAM_FEATURES",
    "state_dim",
]

MODEL_STREAMS = 4
"""Streams that a model of schema 1 decides over."""

SET_SCHEMA = 2
"""The schema of set models."""

SCHEMAS = (SCHEMA, SET_SCHEMA)
"""Those that a model may have."""

STREAM_FEATURES = len(STREAM_NAMES)
CONTEXT_FEATURES = len(CONTEXT_NAMES)
CANDIDATE_FEATURES = len(CANDIDATE_NAMES)


def state_dim(n_streams: int) -> int:
    """Numbers of the state vector of n streams."""
    return 4 * n_streams + 4
