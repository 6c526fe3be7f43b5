"""The verbs of the runtime in a terminal: `tenure VERB`. Results on stdout, logs on stderr, `--json` everywhere.

Exit codes: 0 done; 1 an error, told on stderr; 2 the call's words are off; 3 a gate or the registry refused.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tenure import __version__
from tenure.cli import experience, nights, upkeep, versions
from tenure.cli.output import LOG
from tenure.cli.session import session_from
from tenure.errors import TenureError

app = typer.Typer(
    help="Tenure: a runtime in which a language model learns on the job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option(help="Settings file (TOML); default TENURE_CONFIG, else tenure.toml.")
    ] = None,
    home: Annotated[str | None, typer.Option(help="The store's directory (store.home).")] = None,
    model: Annotated[
        str | None, typer.Option(help="Base model: a known name, a directory or a hub id (model.name).")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="SECTION.KEY=VALUE, as often as needed; `tenure status --settings` lists them."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Settings that every verb understands; precedence: flag > environment > file > default."""
    try:
        context.obj = session_from(config, assignments or [], home, model)
    except TenureError as error:
        LOG.print(f"{error.code}: {error}", highlight=False, markup=False)
        raise typer.Exit(2) from None


for part in (experience, nights, versions, upkeep):
    part.register(app)


def main() -> None:
    """Entry point of the `tenure` command."""
    app()
