"""The stored functions."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, group, offered, workspace_of
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.visible import visible

app = group("The stored functions that queries may call by name.")


@app.command("list", epilog=examples("trailhawk functions list"))
def functions_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the functions of the package and of the home's folder 'functions'.

    A function is a file of KQL there, called by the file's name: comment lines
    that say what it is for, then a query, or (parameters) { query }.
    """
    found = [
        {
            "name": function.name,
            "parameters": function.parameters,
            "about": function.fault or function.documentation.partition("\n")[0],
            "source": function.source,
        }
        for function in workspace_of(context).functions.all()
    ]
    columns = [
        Shown("name", "function"),
        Shown("about", "what it is for"),
        Shown("source", "file", extra=True),
    ]
    show_list(found, columns, form, empty="no functions")


@app.command("show", epilog=examples("trailhawk functions show imAuthentication"))
def functions_show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Its name in the list.", autocompletion=offered("functions")),
    ],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one function: its parameters, documentation and text."""
    function = workspace_of(context).functions.named(name)
    if form is Format.TABLE:
        print(visible(f"// {function.source}\n{function.text or function.fault}".rstrip(), keep="\n"))
        return
    show_one(
        {
            "name": function.name,
            "parameters": function.parameters,
            "documentation": function.documentation,
            "source": function.source,
            "text": function.text,
            "fault": function.fault,
        },
        form,
    )
