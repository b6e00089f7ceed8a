"""The exceptions of ITP; wrong arguments raise ValueError or TypeError instead."""

from __future__ import annotations


class ItpError(Exception):
    """Base of everything ITP raises at run time."""


class ModelError(ItpError):
    """A model file is missing, corrupt, truncated or of the wrong shape."""


class SchemaError(ModelError):
    """A model was made for another state schema."""


class NoStreamError(ItpError):
    """No stream can carry the task: all are down, or fewer are up than its copies need."""


class ClosedError(ItpError):
    """The object was used after ``close()``."""


class OutcomeError(ItpError, ValueError):
    """An outcome belongs to no open decision of this partitioner, or was reported before."""


class StateError(ItpError, ValueError):
    """What was learnt cannot be saved, or a file holds nothing that fits a partitioner; the text says why."""


class LogError(ItpError):
    """An experience log cannot be read or written."""


class ScenarioError(ItpError, ValueError):
    """A scenario or a file it names is wrong; the text says where, and what was expected."""


class EvaluationError(ItpError):
    """A policy could not be evaluated; the text says which, and in which scenario."""


class ReportError(ItpError, ValueError):
    """What should be the report of an evaluation is none; the text says where."""


class MissingExtraError(ItpError):
    """A package is missing that an extra of ITP brings; the text says how to install it."""


class TransportError(ItpError):
    """A transfer failed; the text says which part and what to do."""
