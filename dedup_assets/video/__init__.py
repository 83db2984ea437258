"""Video clips: drawing the demo's, describing any, and judging a deduplication of the demo's.

Nothing is imported here: `codec` needs PyAV, and whoever only evaluates must not pay for it.
"""
