"""The figures that ITP is held to, measured and judged: the package behind ``bench/check.py``.

A check is a function that measures related figures; ``checks.CHECKS`` names them all.
"""
