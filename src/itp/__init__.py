"""Intelligent Task Partitioning."""
