"""What a query asks about the place it runs in."""

from __future__ import annotations

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import String, scalar

DATABASE = "trailhawk"


@scalar()
def current_database() -> String:
    """The name of the database that a query without database() asks.

    >>> current_database()
    trailhawk
    """
    return sql.literal(DATABASE)


@scalar()
def current_cluster_endpoint() -> String:
    """The name of the place the query runs in.

    >>> current_cluster_endpoint()
    trailhawk
    """
    return sql.literal(DATABASE)
