"""Clips of any origin: reading and writing them, and describing their frames.

Nothing is imported here: only `codec` needs PyAV.
"""
