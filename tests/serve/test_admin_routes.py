"""Models, versions, promotion and its refusals, keys and meters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import openai
import pytest
from house import House, Serve
from prometheus_client.parser import text_string_to_metric_families

from tenure.types import Alias, Role


@pytest.fixture(scope="module")
def moved(serve: Serve) -> Iterator[House]:
    """A server of its own: these tests change what it knows."""
    with serve() as running:
        yield running


def other_version(house: House) -> str:
    """A version that nobody has judged: the base at another declared precision."""
    registry = house.runtime.store.registry
    champion = registry.version(registry.aliases()[Alias.CHAMPION])
    return registry.put(replace(champion, precision="bf16"))


def test_models_are_listed_by_alias_and_digest(moved: House) -> None:
    champion = moved.runtime.store.registry.aliases()[Alias.CHAMPION]
    with moved.client() as client:
        listed = {model.id: model for model in client.models.list()}
        assert {"champion", "anchor", "base", champion} <= set(listed)
        assert client.models.retrieve("champion").model_extra == listed["champion"].model_extra
        assert client.models.retrieve(champion[:12]).id == champion
        for unknown in ("gpt-4o", "f" * 64):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(unknown)
            assert caught.value.code == "model_not_found"


def test_an_unjudged_version_is_seen_by_admins_only(serve: Serve) -> None:
    with serve(server__keys=True) as locked:
        digest = other_version(locked)
        keys = locked.runtime.store.keys
        with locked.client(key=keys.create("acme", "ada", [Role.CHAT])) as client:
            assert digest not in {model.id for model in client.models.list()}
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve(digest)
        with locked.client(key=keys.create("acme", "root", [Role.ADMIN])) as client:
            assert digest in {model.id for model in client.models.list()}


def test_versions_show_their_manifest_and_lineage(moved: House) -> None:
    digest = other_version(moved)
    with moved.http() as http:
        found = {version["digest"]: version for version in http.get("/admin/versions").json()["data"]}
        assert found[digest]["manifest"]["precision"] == "bf16"
        detail = http.get(f"/admin/versions/{digest[:10]}").json()
        assert detail["version"]["digest"] == digest and detail["attestations"] == []
        assert http.get("/admin/versions/ffffffff").status_code == 404


def test_there_is_no_way_around_a_verdict(moved: House) -> None:
    digest = other_version(moved)
    with moved.http() as http:
        before = http.get("/admin/aliases").json()
        refused = http.post("/admin/promote", json={"digest": digest})
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "refused"
        assert http.post("/admin/promote", json={"digest": "f" * 64}).status_code == 404
        assert http.post("/admin/promote", json={"digest": "champion"}).status_code == 400
        assert http.post("/admin/rollback").status_code == 409
        assert http.post("/admin/revoke", json={"digest": before["anchor"], "reason": "x"}).status_code == 409
        assert http.get("/admin/aliases").json() == before
        assert http.get("/admin/aliases/history").json()["data"][0]["action"] == "found"


def test_a_revoked_version_is_marked(moved: House) -> None:
    digest = other_version(moved)
    with moved.http() as http:
        assert http.post("/admin/revoke", json={"digest": digest, "reason": "a trial"}).status_code == 200
        found = {version["digest"]: version for version in http.get("/admin/versions").json()["data"]}
    assert found[digest]["revoked"]


def test_keys_are_made_shown_once_and_revoked(moved: House) -> None:
    with moved.http() as http:
        body = {"tenant": "acme", "principal": "ada", "roles": ["chat"]}
        made = http.post("/admin/keys", json=body).json()
        assert moved.runtime.store.keys.authenticate(made["token"]).id == "acme/ada"
        listed = http.get("/admin/keys")
        assert made["token"] not in listed.text
        key_id = listed.json()["data"][-1]["id"]
        assert http.delete(f"/admin/keys/{key_id}").json()["deleted"] is True
        assert http.get("/admin/keys").json()["data"][-1]["revoked"] is True
        assert http.delete("/admin/keys/nobody").status_code == 404
        assert http.post("/admin/keys", json={**body, "tenant": "a/b"}).status_code == 400


def test_prometheus_reads_what_happened(moved: House) -> None:
    with moved.client() as client:
        reply = client.chat.completions.create(
            model="champion", messages=[{"role": "user", "content": "Count me."}], max_tokens=3
        )
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
    with moved.http() as http:
        text = http.get("/../metrics").text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    route = "/v1/chat/completions"
    assert samples[("tenure_requests_total", "POST", route, "200")] == 1
    assert samples[("tenure_requests_total", "POST", route, "404")] == 1
    assert samples[("tenure_tokens_total", "reply")] == reply.usage.completion_tokens if reply.usage else False
    assert samples[("tenure_first_token_seconds_count",)] == 1
    assert samples[("tenure_request_seconds_count", route)] == 2
    assert samples[("tenure_version_info", "champion", reply.system_fingerprint)] == 1
    assert samples[("tenure_swaps_total",)] == 0
    assert samples[("tenure_open",)] == 0
    assert samples[("tenure_drafts_total", "accepted")] <= samples[("tenure_drafts_total", "drafted")]
    assert samples[("tenure_ledger_entries",)] == moved.runtime.store.ledger.head()
