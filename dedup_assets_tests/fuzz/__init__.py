"""``python -m dedup_assets_tests.fuzz --inputs 10000 [--seed N]``: damaged and odd input.

Each input has to be read as it is, or be refused by one of the project's errors in one line. A
traceback, a crash, a hang or other rows than an independent reading finds are failures, named by
the seed that makes the input again: ``--seed N --inputs 1``.
"""
