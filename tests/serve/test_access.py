"""Who gets in: keys, roles, loopback, and limits that hold before anything is parsed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from house import House, Serve

from tenure.config import ServerConfig
from tenure.errors import ConfigError
from tenure.serve.access import check_access, is_loopback
from tenure.serve.app import listen
from tenure.types import Role

HELLO: Any = [{"role": "user", "content": "Hello."}]


@pytest.fixture(scope="module")
def locked(serve: Serve) -> Iterator[House]:
    with serve(server__keys=True, server__max_body_bytes=20_000) as running:
        yield running


def key(house: House, *roles: Role, name: str = "ada", tenant: str = "acme") -> str:
    return house.runtime.store.keys.create(tenant, name, roles)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.2", "example.org", "")),
    ],
)
def test_keys_may_be_off_on_loopback_only(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    check_access(ServerConfig(host=host, keys=True))
    if loopback:
        check_access(ServerConfig(host=host, keys=False))
    else:
        with pytest.raises(ConfigError, match=r"server\.keys"):
            check_access(ServerConfig(host=host, keys=False))


def test_a_taken_port_is_told_before_the_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"server\.port"):
            listen(ServerConfig(port=taken.getsockname()[1]))


def test_without_a_valid_key_nobody_gets_in(locked: House) -> None:
    with locked.http() as http:
        response = http.post("/chat/completions", json={"messages": HELLO})
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"
    for wrong in ("sk-wrong", "tnr_000000000000_" + "0" * 64, "tnr_\N{SNOWMAN}".encode().decode("latin1")):
        with locked.http() as http:
            headers = {"Authorization": b"Bearer " + wrong.encode("latin1")}
            assert http.get("/models", headers=headers).status_code == 401
    with locked.client(key="sk-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_revoked_key_is_dead_at_once(locked: House) -> None:
    token = key(locked, Role.CHAT, name="bob")
    with locked.http(token) as http:
        assert http.get("/models").status_code == 200
        locked.runtime.store.keys.revoke(locked.runtime.store.keys.list()[-1].id)
        assert http.get("/models").status_code == 401


ADMIN_ROUTES = [
    ("GET", "/admin/versions"),
    ("GET", "/admin/versions/00000000"),
    ("GET", "/admin/aliases"),
    ("GET", "/admin/aliases/history"),
    ("POST", "/admin/promote"),
    ("POST", "/admin/rollback"),
    ("POST", "/admin/revoke"),
    ("GET", "/admin/keys"),
    ("POST", "/admin/keys"),
    ("DELETE", "/admin/keys/0"),
    ("GET", "/admin/why/turn_0"),
    ("POST", "/fine_tuning/jobs"),
    ("GET", "/fine_tuning/jobs"),
    ("GET", "/fine_tuning/jobs/night_0"),
    ("GET", "/fine_tuning/jobs/night_0/events"),
    ("GET", "/fine_tuning/jobs/night_0/checkpoints"),
    ("POST", "/fine_tuning/jobs/night_0/cancel"),
    ("GET", "/../metrics"),
]


def test_every_admin_route_of_the_schema_is_in_this_test(locked: House) -> None:
    paths = httpx.get(locked.url.replace("/v1", "/openapi.json"), trust_env=False).json()["paths"]
    admin = {p for p in paths if p.startswith(("/v1/admin", "/v1/fine_tuning"))}
    tried = {"/v1" + path for _, path in ADMIN_ROUTES}
    assert {p.split("{")[0] for p in admin} == {
        next(p.split("{")[0] for p in admin if _fits(p, path)) for path in tried if "metrics" not in path
    }


def _fits(template: str, path: str) -> bool:
    wanted, given = template.split("/"), path.split("/")
    return len(wanted) == len(given) and all(w == g or w.startswith("{") for w, g in zip(wanted, given, strict=True))


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_no_admin_route_opens_to_a_chat_key(locked: House, method: str, path: str) -> None:
    token = key(locked, Role.CHAT, Role.FEEDBACK)
    with locked.http(token) as http:
        response = http.request(method, path, json={} if method == "POST" else None)
    assert response.status_code == 403, response.text
    assert response.json()["error"]["code"] == "access_denied"


def test_roles_do_not_imply_each_other_but_admin_may_do_everything(locked: House) -> None:
    feedback, chat, admin = key(locked, Role.FEEDBACK), key(locked, Role.CHAT), key(locked, Role.ADMIN, name="root")
    said = {"kind": "score", "score": 1, "session": "s"}
    talk = {"messages": HELLO, "max_tokens": 1}
    with locked.http(feedback) as http:
        assert http.post("/feedback", json=said).status_code == 200
        assert http.post("/chat/completions", json=talk).status_code == 403
        assert http.get("/models").status_code == 403
    with locked.http(chat) as http:
        assert http.post("/feedback", json=said).status_code == 403
        assert http.post("/chat/completions", json=talk).status_code == 200
    with locked.http(admin) as http:
        assert http.post("/feedback", json=said).status_code == 200
        assert http.post("/chat/completions", json=talk).status_code == 200
        assert http.get("/admin/versions").status_code == 200
        assert http.get("/../metrics").status_code == 200
    with locked.client(key=feedback) as client, pytest.raises(openai.PermissionDeniedError):
        client.models.list()


def test_the_principal_comes_from_the_key_and_never_from_the_body(locked: House) -> None:
    ada, eve = key(locked, Role.CHAT, name="ada"), key(locked, Role.CHAT, name="eve")
    with locked.client(key=ada) as client:
        told: Any = [{"role": "user", "content": "The vault of the Kestrel house is under the stairs."}]
        reply = client.chat.completions.create(model="champion", messages=told, max_tokens=1)
    turn = locked.runtime.store.ledger.turn(reply.id)
    assert (turn.scope.tenant, turn.scope.principal, turn.scope.user) == ("acme", "ada", "")
    asked = {"messages": [{"role": "user", "content": "Where is the vault of the Kestrel house?"}], "max_tokens": 1}
    with locked.http(eve) as http:
        for user in (None, "", "ada", "acme/ada"):
            answer = http.post("/chat/completions", json={**asked, "user": user}).json()
            assert answer["tenure"]["memory_ids"] == []
        blame = {"response_id": reply.id, "kind": "score", "score": -1}
        assert http.post("/feedback", json=blame).status_code in (403, 404)
    with locked.http(ada) as http:
        answer = http.post("/chat/completions", json=asked).json()
        assert answer["tenure"]["memory_ids"], answer


def test_health_is_open_and_says_what_is_served(locked: House) -> None:
    response = httpx.get(locked.url.replace("/v1", "/healthz"), trust_env=False)
    assert response.status_code == 200
    assert response.json()["version"] in locked.runtime.store.registry.aliases().values()


def test_without_keys_a_rebound_name_is_turned_away(house: House) -> None:
    with house.http() as http:
        assert http.get("/models", headers={"Host": "evil.example"}).status_code == 403
        assert http.get("/models", headers={"Host": "[oops"}).status_code in (400, 403)
        for name in ("localhost:1", "127.0.0.1", "[::1]:8700"):
            assert http.get("/models", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://["])
def test_without_keys_a_page_from_elsewhere_can_post_nothing(house: House, origin: str) -> None:
    with house.http() as http:
        assert http.post("/admin/rollback", headers={"Origin": origin}).status_code == 403
        assert http.post("/admin/rollback", headers={"Origin": "http://localhost:3000"}).status_code == 409


def test_a_body_over_the_limit_is_refused_before_it_is_parsed(locked: House) -> None:
    token = key(locked, Role.CHAT)
    too_much = b"[" * 30_000  # neither JSON nor short
    with locked.http(token) as http:
        said = http.post("/chat/completions", content=too_much, headers={"Content-Type": "application/json"})
        unsaid = http.post("/chat/completions", content=iter([too_much]), headers={"Content-Type": "application/json"})
    for response in (said, unsaid):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"
    with locked.client(key=token) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="champion", messages=[{"role": "user", "content": "x" * 30_000}])
    assert caught.value.status_code == 413


BROKEN = [
    b"",
    b"{",
    b"[]",
    b'"hello"',
    b"null",
    b"\xff\xfe{}",
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"messages": [{"role": "\\ud800", "content": "x"}]}',
    b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    b'{"messages": [{"role": "user", "content": "x"}], "temperature": Infinity}',
    b'{"messages": [{"role": "user", "content": "x"}], "seed": 1' + b"0" * 5000 + b"}",
    b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f", '
    b'"parameters": ' + b'{"a": ' * 200 + b"1" + b"}" * 200 + b"}}]}",
]


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
def test_a_body_that_cant_be_read_is_a_400_in_openais_shape(house: House, body: bytes) -> None:
    with house.http() as http:
        response = http.post("/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"]


def test_a_body_of_another_type_is_not_parsed(house: House) -> None:
    body = json.dumps({"messages": HELLO})
    with house.http() as http:
        response = http.post("/chat/completions", content=body, headers={"Content-Type": "text/plain"})
        assert response.status_code == 400
        assert "application/json" in response.json()["error"]["message"]
        assert http.get("/nowhere").json()["error"]["code"] == "not_found"
        assert http.get("/chat/completions").status_code == 405


def test_the_socket_sends_small_packets_at_once() -> None:
    with listen(ServerConfig(port=0)) as sock:
        assert sock.proto == socket.IPPROTO_TCP  # without it asyncio leaves Nagle on: 40 ms a reply
