"""What can go wrong in training, as errors that say what to do."""

from itp.errors import ItpError


class TrainingError(ItpError):
    """A run cannot start or go on."""


class ConfigError(TrainingError, ValueError):
    """A setting is wrong."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, corrupt, or of another configuration."""
