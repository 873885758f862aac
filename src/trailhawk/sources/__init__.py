"""One file a log format: which objects it is, how to read them, table, column mapping, promoted paths."""
