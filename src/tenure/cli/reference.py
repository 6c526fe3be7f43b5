"""The reference page: every verb with its options, and every setting, written from the code itself.

`python -m tenure.cli.reference > docs/reference.md` (make reference); a test holds the page and the code together.
"""

from __future__ import annotations

import sys
from typing import Any

import typer.main

from tenure.config import describe_settings

HEAD = """# Reference

Written from the code by `make reference`. Results go to stdout, logs and progress to stderr; `--json` prints one JSON
document. Exit codes: 0 done; 1 an error, told on stderr; 2 the call's words are off; 3 a gate or the registry refused.
"""

SETTINGS = """## Settings

One TOML file (`tenure.toml` here, `--config FILE`, or `TENURE_CONFIG`), with a table per section. Precedence: flag >
environment > file > default. In the environment `server.port` is `TENURE_SERVER_PORT`; on the command line
`--set server.port=9000`. Unknown keys are errors.

| setting | default | meaning |
| --- | --- | --- |
"""


def reference() -> str:
    """The whole page as Markdown."""
    from tenure.cli import app

    group: Any = typer.main.get_command(app)  # typer carries its own click, whose types it doesn't export
    context = group.make_context("tenure", [], resilient_parsing=True)
    parts = [HEAD, "## Options before the verb\n", _options(group, context), "## Verbs\n"]
    for name, command in group.commands.items():
        parts.append(f"### tenure {name}{_arguments(command)}\n\n{(command.help or '').strip()}\n")
        parts.append(_options(command, command.make_context(name, [], parent=context, resilient_parsing=True)))
    settings = "".join(f"| `{name}` | `{default}` | {doc} |\n" for name, default, doc in describe_settings())
    return "\n".join(part for part in [*parts, SETTINGS + settings] if part)


def _arguments(command: Any) -> str:
    names = [p.name.upper() for p in command.params if p.param_type_name == "argument" and p.name]
    return "".join(f" {name}" for name in names)


def _options(command: Any, context: Any) -> str:
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context) if parameter.param_type_name == "option" else None
        if record and "--help" not in record[0]:
            rows.append(f"| `{record[0]}` | {record[1].strip()} |")
        elif parameter.param_type_name == "argument" and parameter.name:
            rows.append(f"| `{parameter.name.upper()}` | {getattr(parameter, 'help', '') or ''} |")
    return "| option | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n" if rows else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
