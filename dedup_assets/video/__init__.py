"""Videos and clips: cutting, reading and writing them, and describing their frames.

Nothing is imported here. PyAV is imported by `cutter` and by what `cutter` is made of;
`cut`, `apart`, `spans`, `ids`, `plan` and `encoders` import without it.
"""
