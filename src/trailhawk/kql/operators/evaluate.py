"""evaluate: the plugins of `plugins/`; those that leave the machine, or run code, are refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import carried, riders
from trailhawk.kql.plan import Node
from trailhawk.kql.plugins.registry import PLUGINS, Use
from trailhawk.kql.scope import Env, suggestion

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_RUN_CODE = frozenset({"python", "r", "csharp"})
_GO_OUT = frozenset(
    {
        "ai_chat_completion",
        "ai_chat_completion_prompt",
        "ai_embed_text",
        "ai_embeddings",
        "azure_digital_twins_query_request",
        "cosmosdb_sql_request",
        "dax_request",
        "execute_query",
        "execute_show_command",
        "http_request",
        "http_request_post",
        "infer_storage_schema",
        "infer_storage_schema_with_suggestions",
        "mysql_request",
        "postgresql_request",
        "sql_request",
    }
)


@step(syntax.Evaluate)
def evaluate(binder: Binder, node: Node, operator: syntax.Evaluate, env: Env) -> Node:
    call = operator.call
    if call.name in _RUN_CODE:
        raise UnsupportedError(f"plugin {call.name}(): code in a query is not run", call.name_span)
    if call.name in _GO_OUT:
        raise UnsupportedError(f"plugin {call.name}(): a query does not leave the machine", call.name_span)
    if call.name not in PLUGINS:
        hint = suggestion(call.name, PLUGINS)
        raise BindingError(
            f"there is no plugin '{call.name}'", call.name_span, hint=hint, code="unknown-function"
        )
    if carried(binder, node) or riders(node):
        raise UnsupportedError(f"evaluate {call.name}() inside a sub-pipe", operator.span)
    found = PLUGINS[call.name](Use(binder, node, env, call, operator.columns, operator.open))
    if operator.columns is None:
        return found
    declared = [(column.name, column.type) for column in operator.columns]
    given = [(column.name, column.type) for column in found.columns][-len(declared) or None :]
    if declared != given and not operator.open:
        shown = ", ".join(f"{name}: {type_.value}" for name, type_ in given)
        raise BindingError(f"{call.name}() gives ({shown}), not the declared schema", operator.span)
    return found
