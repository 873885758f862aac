"""How large a query may be."""

MAX_DEPTH = 100
"""How deep parentheses, calls and sub-queries may nest."""
MAX_HEIGHT = 400
"""How tall the tree of one expression may grow by long chains such as `a + b + c ...` or `a.b.c ...`."""
MAX_LENGTH = 2_000_000
"""Characters in a query: Kusto's own limit."""
MAX_PROBLEMS = 20
"""How many errors `problems` collects."""
