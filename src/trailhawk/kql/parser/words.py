"""The words of KQL: which may stand as names, and the operators between expressions."""

from __future__ import annotations

from trailhawk.kql import lexer
from trailhawk.kql.types import TYPE_NAMES, KqlType

# Which keywords may stand as a name without brackets, found by asking Microsoft's parser.
_ALWAYS_NAMES = """
    __partitionby access alias best_effort bin bool consume count database dataformat
    datetime_pattern declare default distinct edges entity_group evaluate extend facet filter fork
    from getschema graph guid id inline_external_table join kind let limit lookup mvapply mvexpand
    nodes null nulls on optional order output pack parse partition pattern plotly query_parameters
    range reduce regex render restrict scan serialize sort step summarize take top typeof uuid view
    with with_node_id with_source withsource
"""
_NAMES_WHEN_DEFINED = """
    accumulate as by contains datatable earliest externaldata find has in invoke latest materialize
    mdm of print sample search set sql title to toscalar totable verbose viewers where
"""
_KEYWORDS = """
    FALSE False TRUE True accumulate and anomalychart areachart as asc bagexpansion barchart between
    bin_legacy boolean by byte card char columnchart contains contains_cs containscs datascope
    datatable date datetime decimal decodeblocks desc double dynamic earliest endswith endswith_cs
    expandoutput external_data externaldata false find first flags float has has_all has_any has_cs
    hasprefix hasprefix_cs hassuffix hassuffix_cs hotcache in int int16 int32 int64 int8 invoke in~
    isfuzzy kind ladderchart last latest like likecs linechart long materialize mdm nooptimization
    notcontains notcontainscs notlike notlikecs of or others piechart pivotchart print project real
    relaxed sample scatterchart search set simple sql stackedareachart startswith startswith_cs
    string time timechart timeline timepivot timespan title to toscalar totable treemap true uint
    uint16 uint32 uint64 uint8 ulong union uniqueid verbose viewers where with_itemindex
    with_match_id with_source with_step_name withsource
"""
_SIMPLE_NAMES = frozenset(_ALWAYS_NAMES.split())
_DEFINED_NAMES = _SIMPLE_NAMES - {"kind", "withsource", "with_source"} | frozenset(
    _NAMES_WHEN_DEFINED.split()
)
_RESERVED = frozenset(_KEYWORDS.split()) | frozenset(lexer.HYPHENATED)
NO_REFERENCE = _RESERVED - _SIMPLE_NAMES
NO_DEFINITION = _RESERVED - _DEFINED_NAMES
ROW_SOURCES = frozenset({"datatable", "externaldata", "external_data"})
PIPE_FUNCTIONS = frozenset({"toscalar", "materialize", "totable"})
CALLABLE = PIPE_FUNCTIONS | {"contains", "has", "in", "first", "last"}

# Precedence, weakest first. Only `or`, `and` and arithmetic may be chained without parentheses.
OR, AND, EQUALITY, RELATION, SUM, PRODUCT, TEXTUAL = range(1, 8)
_TEXT_OPERATORS = {
    name: name
    for word in ("has", "hasprefix", "hassuffix", "contains", "startswith", "endswith")
    for name in (word, f"!{word}", f"{word}_cs", f"!{word}_cs")
} | {
    "=~": "=~",
    "!~": "!~",
    ":": "has",
    "matches": "matches regex",
    "containscs": "contains_cs",
    "notcontains": "!contains",
    "notcontainscs": "!contains_cs",
}
LISTS = ("in", "!in", "in~", "!in~", "has_any", "has_all")
LIKE = ("like", "notlike", "likecs", "notlikecs")
INFIX: dict[str, tuple[int, str]] = (
    {"or": (OR, "or"), "and": (AND, "and")}
    | {"==": (EQUALITY, "=="), "!=": (EQUALITY, "!="), "<>": (EQUALITY, "!=")}
    | {name: (EQUALITY, name) for name in (*LISTS, "between", "!between")}
    | {name: (RELATION, name) for name in ("<", "<=", ">", ">=")}
    | {name: (TEXTUAL, name) for name in LIKE}
    | {name: (SUM, name) for name in "+-"}
    | {name: (PRODUCT, name) for name in "*/%"}
    | {name: (TEXTUAL, op) for name, op in _TEXT_OPERATORS.items()}
)
AFTER_STAR = frozenset({"==", "and", "or", *_TEXT_OPERATORS})

TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
TYPES = TYPE_NAMES | {"int64": KqlType.LONG, "int8": KqlType.BOOL}
FIND_TYPES = TYPES | {
    "float": KqlType.REAL,
    "int16": KqlType.INT,
    "int32": KqlType.INT,
    "uint": KqlType.LONG,
    "uint16": KqlType.INT,
    "uint32": KqlType.LONG,
    "uint64": KqlType.LONG,
    "uint8": KqlType.INT,
    "ulong": KqlType.LONG,
}
