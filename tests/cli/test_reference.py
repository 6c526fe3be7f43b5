"""Every verb and every setting is documented, and the page is what the code says."""

from __future__ import annotations

from pathlib import Path

from tenure.bench.catalog import BENCHMARKS
from tenure.cli.reference import reference
from tenure.config import describe_settings

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
VERBS = (
    "serve chat import feedback sleep status versions show diff gate promote rollback revoke why verify backup restore",
    "keys demo bench",
)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text("utf8") == reference(), "run `make reference`"


def test_every_verb_is_there_and_says_what_it_does() -> None:
    page = reference()
    for verb in " ".join(VERBS).split():
        _, found, rest = page.partition(f"### tenure {verb}")
        assert found, verb
        assert len(rest.split("\n\n")[1].split()) >= 3, f"{verb} has no help"


def test_every_benchmark_is_named() -> None:
    _, _, about = reference().partition("### tenure bench")
    assert all(name in about.split("###")[0] for name in BENCHMARKS)


def test_every_setting_says_what_it_means() -> None:
    page = reference()
    for name, _, doc in describe_settings():
        assert f"`{name}`" in page
        assert len(doc.split()) >= 3, name
