"""`_GetWatchlist('alias')`: the items of a watchlist, which the catalog holds under a hidden name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, NotFoundError
from trailhawk.kql import syntax
from trailhawk.kql.plan import Node
from trailhawk.kql.schema import watchlist_table
from trailhawk.kql.scope import Env

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

WATCHLIST_FUNCTION = "_GetWatchlist"


def watchlist(binder: Binder, call: syntax.Call, env: Env) -> Node:
    """The scan of the watchlist that the call names."""
    from trailhawk.kql.operators.tables import scan

    if len(call.args) != 1:
        raise BindingError(f"{WATCHLIST_FUNCTION}() takes the alias of a watchlist", call.span)
    arg = call.args[0].value if isinstance(call.args[0], syntax.Named) else call.args[0]
    alias = binder.scalars.constant(arg, env, "the alias").value
    if not isinstance(alias, str):
        raise BindingError("the alias of a watchlist is a text", arg.span)
    try:
        table = binder.catalog.table(watchlist_table(alias))
    except NotFoundError as error:
        raise BindingError(error.message, arg.span, hint=error.hint, code="unknown-watchlist") from None
    if table is None:
        raise BindingError(f"there is no watchlist '{alias}'", arg.span, code="unknown-watchlist")
    return scan(binder, table)
