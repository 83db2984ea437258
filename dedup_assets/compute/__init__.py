"""Arrays in, arrays out: no Dagster, no files. NumPy or CuPy, looked up from the data."""
