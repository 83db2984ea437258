"""One module per asset: what it does, as plain functions over settings and a store.

The assets call these and report; the command and the benchmarks run the same code.
"""
