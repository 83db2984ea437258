"""Video clips: drawing the demo's, describing any, and judging a deduplication of the demo's.

Nothing is imported here: `codec` needs PyAV, which evaluation does not.
"""
