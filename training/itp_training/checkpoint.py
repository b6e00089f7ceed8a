"""Checkpoints: one file with all that a run needs to go on, complete or not there at all.

Layout: a magic, the SHA-256 of the rest, then PyTorch's own format with tensors and plain values only,
which is read without running any code of the file's.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itp import PrioritizedReplayBuffer
from itp._util.files import write_bytes
from itp._util.messages import brief
from itp_training.errors import CheckpointError

_MAGIC = b"ITPTRAIN"
_VERSION = 2
_DIGEST_SIZE = hashlib.sha256().digest_size


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; OSError leaves what stood at `path` as it was."""
    stream = io.BytesIO()
    torch.save({"version": _VERSION, **content}, stream)
    payload = stream.getbuffer()
    write_bytes(path, _MAGIC, hashlib.sha256(payload).digest(), payload)


def load(path: Path, schema: int = 1) -> dict[str, Any]:
    """What `save` wrote.

    Parameters
    ----------
    path : Path
    schema : int
        Of the models that the run trains; the content says it where that is not 1.

    Raises
    ------
    CheckpointError
        Missing, truncated, changed, no checkpoint at all, or of a run that trains models of another schema.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    start = len(_MAGIC) + _DIGEST_SIZE
    if not content.startswith(_MAGIC) or len(content) <= start:
        raise CheckpointError(f"{path}: no checkpoint of `itp train`")
    payload = memoryview(content)[start:]
    if hashlib.sha256(payload).digest() != content[len(_MAGIC) : start]:
        raise CheckpointError(
            f"{path}: corrupt or truncated: its SHA-256 does not fit; begin a new run, or take a copy"
        )
    try:
        found = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read: {brief(error)}") from error
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        raise CheckpointError(f"{path}: written by another version of `itp train`")
    if (theirs := found.get("schema", 1)) != schema:
        raise CheckpointError(
            f"{path}: of a run that trains a model of schema {theirs}: use --schema {theirs}"
        )
    return found


def pack_buffer(buffer: PrioritizedReplayBuffer) -> torch.Tensor:
    """All of a replay buffer, its generator too, as bytes in a tensor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "buffer"
        buffer.save(path)
        return torch.from_numpy(np.fromfile(path, dtype=np.uint8))


def unpack_buffer(buffer: PrioritizedReplayBuffer, packed: torch.Tensor) -> None:
    """Fill a buffer with what `pack_buffer` gave."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "buffer"
        packed.numpy().tofile(path)
        buffer.load(path)
