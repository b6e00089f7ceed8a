"""Records of experience, from logs and files into a replay buffer."""

from __future__ import annotations

from collections.abc import Callable

from itp import PrioritizedReplayBuffer
from itp.experience.reader import read_records
from itp.schema import MODEL_STREAMS, STATE_DIM
from itp_training.config import TrainingConfig
from itp_training.errors import TrainingError


def read_into(
    buffer: PrioritizedReplayBuffer, config: TrainingConfig, tick: Callable[[int], None] = lambda _: None
) -> int:
    """Fill a buffer with the records that a configuration names, in its order; returns how many there are.

    Each is a transition of one step: the state, the action, its reward, and the state of the next decision.
    Of more records than the buffer holds, the last ones stay.

    Parameters
    ----------
    buffer : PrioritizedReplayBuffer
    config : TrainingConfig
    tick : callable, optional
        Called with the number of records just read; it may raise to leave.

    Raises
    ------
    LogError
        A file is missing, damaged, no record of experience, or of another version or service order.
    TrainingError
        There is no record, or records are of another number of streams or hold values that are not finite.
    """
    total = 0
    for source in config.experiences:
        read = 0
        for records in read_records(source, service_order=config.service_order):
            length = records.dtype["state"].shape[0]
            if length != STATE_DIM:
                raise TrainingError(
                    f"{source}: records of {length // 4 - 1} streams; a model decides over {MODEL_STREAMS}"
                )
            try:
                buffer.extend(records)
            except ValueError as error:
                raise TrainingError(f"{source}: of the records from {read} on, {error}") from None
            read += len(records)
            tick(len(records))
        if not read:
            raise TrainingError(f"{source}: there is no record in it")
        total += read
    return total
