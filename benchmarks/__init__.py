"""Measurements of the product; each module runs by itself: ``python -m benchmarks.end_to_end``.

Absolute times belong to the machine they were taken on. What counts is the ratio of two numbers
of one run, and the peak memory.
"""
