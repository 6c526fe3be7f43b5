"""The OpenAPI schema is true: schemathesis sends what it allows and what it doesn't, and every answer must conform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from house import settings_of
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import Receive, Scope, Send

from tenure.runtime import Runtime
from tenure.serve.app import build_app

EXAMPLES = {"POST": 14}  # of each operation; the others take no body
FEW = 4
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def api(roomy_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application in this process, without its lifespan: a night that is asked for stays queued."""
    config = settings_of(roomy_model, tmp_path_factory.mktemp("schema"), {"server.max_tokens": 2})
    runtime = Runtime.open(config, worker=True)
    app = build_app(runtime)

    async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":  # the transport would start and stop the application for every call
            await app(scope, receive, send)
            return
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})

    yield schemathesis.openapi.from_asgi("/openapi.json", without_lifespan)
    app.state.door.flights.close()
    runtime.close()


def test_every_answer_conforms(api: Any) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @settings(
            max_examples=EXAMPLES.get(operation.method.upper(), FEW),
            derandomize=True,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        def conforms(case: Any) -> None:
            case.call_and_validate(base_url="http://127.0.0.1", checks=CHECKS)

        conforms()
