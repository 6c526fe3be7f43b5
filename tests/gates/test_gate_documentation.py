"""docs/gates.md says what the code does: its example is a suite, its numbers are the code's, its settings exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from tenure.config import GateConfig
from tenure.gates.statistics import alpha_of_night, items_for_rate, needed_items, tango_bounds
from tenure.gates.suites import read_suite

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text("utf8")


def test_the_example_is_a_suite() -> None:
    example = PAGE.split("```json\n")[1].split("```")[0]
    suite = read_suite("example", example, where="docs/gates.md")
    assert len(suite.items) == 4
    assert suite.required and suite.max_broken == 0


def test_the_numbers_of_items_are_the_code_s() -> None:
    alpha = alpha_of_night(0.05, 1)
    for delta in (0.05, 0.02, 0.01):
        told = re.search(rf"\| {delta} \| 5 % / 10 % / 20 % \| (.+?) \|", PAGE)
        assert told
        assert told[1] == " / ".join(f"{needed_items(delta, alpha, share):,}" for share in (0.05, 0.1, 0.2))
    assert items_for_rate(0.02, 0.05) == 149
    assert tango_bounds(0, 0, 600, alpha_of_night(0.05, 1000))[0] > -0.05


def test_it_names_every_setting_and_no_other() -> None:
    assert set(re.findall(r"`gate\.([a-z_]+)`", PAGE)) == {f.name for f in fields(GateConfig)}
