"""KQL's functions: one Python function each, with types, documentation, examples and SQL."""
