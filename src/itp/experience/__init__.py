"""Decisions joined with their outcomes: the record, the log, its reader, exports."""
