"""Verbs about experience: serve, chat, feedback, import, why."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenure.cli.output import LOG, bars, show
from tenure.cli.session import ADMIN, DEFAULT_SCOPE, JsonFlag, ScopeFlag, Session, scope_of, told_plainly
from tenure.errors import InputError
from tenure.types import Feedback, FeedbackKind, Message

if TYPE_CHECKING:
    from tenure.runtime import ChatResult, Reply, Runtime


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address (server.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (server.port).")] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Proxy mode: an OpenAI-compatible base URL (server.upstream).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve the OpenAI API; nights start by schedule, when idle, or through /v1/fine_tuning/jobs.

    With --json its base URL is printed as {"url": ...} once it answers.
    """
    from dataclasses import replace

    from tenure.serve.app import run_server

    session: Session = context.obj
    given: dict[str, Any] = {"host": host, "port": port, "upstream": upstream}
    server = replace(session.config.server, **{k: v for k, v in given.items() if v is not None})
    with told_plainly(), bars() as progress:
        announce = (lambda url: show({"url": url}, as_json=True)) if as_json else None
        run_server(replace(session.config, server=server), progress=progress, announce=announce)


def chat(
    context: typer.Context,
    message: Annotated[
        str | None, typer.Argument(help="One message; without it, a conversation until an empty line.")
    ] = None,
    scope: ScopeFlag = DEFAULT_SCOPE,
    model: Annotated[
        str, typer.Option("--version", help="champion, base, anchor, challenger or a digest.")
    ] = "champion",
    memory: Annotated[bool, typer.Option(help="Let the context layer add what it remembers.")] = True,
    max_tokens: Annotated[int, typer.Option(help="Longest reply, in tokens.")] = 128,
    as_json: JsonFlag = False,
) -> None:
    """Talk to the served version; every turn is kept."""
    session: Session = context.obj
    with told_plainly(), session.runtime(worker=True) as runtime:
        history: list[Message] = []
        while True:
            text = message if message is not None else typer.prompt("you", default="", show_default=False)
            if not text.strip():
                return
            history.append(Message("user", text))
            reply, result = _say(runtime, history, scope, model, memory, max_tokens, stream=not as_json)
            history.append(result.message)
            if as_json:
                show({"id": reply.id, "content": result.message.content, "version": reply.fingerprint}, as_json=True)
            if message is not None:
                return


def _say(
    runtime: Runtime, history: list[Message], scope: str, model: str, memory: bool, max_tokens: int, *, stream: bool
) -> tuple[Reply, ChatResult]:
    from tenure.model.requests import Sampling
    from tenure.runtime import ChatCall

    call = ChatCall(tuple(history), scope_of(scope), ADMIN, Sampling(max_tokens=max_tokens), model, memory=memory)
    reply = runtime.chat(call)
    for event in reply:
        if stream:
            typer.echo(event.text, nl=False)
    result = reply.result()
    if stream:
        typer.echo("")
        LOG.print(
            f"[dim]{reply.id}  {reply.fingerprint[:12]}  "
            f"{len(reply.memory_ids)} memories, {len(reply.module_ids)} attachments[/dim]"
        )
    return reply, result


def feedback(
    context: typer.Context,
    response: Annotated[str, typer.Argument(help="The id of the reply.")],
    kind: Annotated[FeedbackKind, typer.Option(help="What kind of feedback.")] = FeedbackKind.CORRECTION,
    text: Annotated[str, typer.Option(help="The words, for a correction, comment or demonstration.")] = "",
    score: Annotated[float | None, typer.Option(help="From -1 to 1.")] = None,
    scope: ScopeFlag = DEFAULT_SCOPE,
    as_json: JsonFlag = False,
) -> None:
    """Say what was right or wrong about a reply, days later too."""
    session: Session = context.obj
    with told_plainly(), session.runtime_without_model() as runtime:
        if score is not None and not -1 <= score <= 1:
            raise InputError(f"score {score} is outside -1 to 1")
        if score is None and not text:
            raise InputError("nothing said; give --text or --score")
        entry = Feedback(f"fb_{uuid.uuid4().hex}", scope_of(scope), kind, time.time(), response, score=score, text=text)
        show({"id": runtime.feedback(entry)}, as_json=as_json)


def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="OpenAI chat JSONL, ShareGPT JSON or JSONL, or LoCoMo JSON.")],
    form: Annotated[str, typer.Option("--format", help="auto, openai, sharegpt or locomo.")] = "auto",
    scope: ScopeFlag = DEFAULT_SCOPE,
    as_json: JsonFlag = False,
) -> None:
    """Take real logs into the ledger; resumes where it stopped, keeps bad lines aside by number."""
    from tenure.context.recall import Context
    from tenure.store.importers import import_file as take

    session: Session = context.obj
    with told_plainly(), session.store() as store, bars() as progress:
        layer = Context(store.memories, session.config.context)
        show(
            take(
                store,
                file,
                format=form,
                scope=scope_of(scope),
                progress=progress,
                notice=lambda turn: layer.notice(turn).memories,
            ),
            as_json=as_json,
            title=f"import {file}",
        )


def why(
    context: typer.Context,
    response: Annotated[str, typer.Argument(help="The id of the reply.")],
    scope: ScopeFlag = DEFAULT_SCOPE,
    as_json: JsonFlag = False,
) -> None:
    """Why a reply said what it said: version, memories, modules, and the turns behind each of them."""
    session: Session = context.obj
    with told_plainly(), session.runtime_without_model() as runtime:
        show(runtime.why(response, scope_of(scope), ADMIN), as_json=as_json, title=f"why {response}")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(serve)
    app.command()(chat)
    app.command("import")(import_file)
    app.command()(feedback)
    app.command()(why)
