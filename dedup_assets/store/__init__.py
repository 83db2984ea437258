"""Every path, schema and file format; local disk and object stores alike."""
