"""Formats that input comes in, one module each; `rows` has what holds for all of them."""
