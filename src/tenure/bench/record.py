"""The result file of a benchmark: command, seeds, machine, versions and metrics with their intervals.

Every benchmark ends by calling `write_result`, which also prints the object as the last line.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scipy import stats

PACKAGES = ("tenure", "torch", "transformers", "peft", "numpy", "llguidance")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system of this machine."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that numbers depend on, and of our own code."""
    found = {"python": platform.python_version(), "commit": commit()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The commit that the code was checked out at, with a "+" when files of it were changed since; "" elsewhere.

    Asked once, when a benchmark starts: hours later somebody may have committed more.
    """
    source = Path(__file__).resolve().parents[1]
    try:
        said = [
            subprocess.run(["git", *asked], cwd=source, check=True, capture_output=True, text=True).stdout.strip()
            for asked in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", "."))
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said[0] + ("+" if said[1] else "")


def ci95(values: Sequence[float]) -> float:
    """Half width of the 95 % t interval of a mean; NaN below two values."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def write_result(
    name: str,
    metrics: Mapping[str, Any],
    *,
    seeds: Sequence[int],
    directory: Path = Path("bench/results"),
    command: str | None = None,
) -> dict[str, Any]:
    """Write `directory/name.json` and print the same object on one line.

    A metric given as a list of numbers (one a seed) is written as its mean, with `<key>_ci95` (half width) and
    `<key>_values` beside it; anything else is written as it is.
    """
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        if isinstance(value, (list, tuple)) and value and all(isinstance(v, (int, float)) for v in value):
            numbers = [float(v) for v in value]
            flat[key] = sum(numbers) / len(numbers)
            half = ci95(numbers)
            flat[f"{key}_ci95"] = None if math.isnan(half) else half
            flat[f"{key}_values"] = numbers
        else:
            flat[key] = value
    result = {
        "command": command or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seeds": list(seeds),
        "machine": machine(),
        "versions": versions(),
        "metrics": flat,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", "utf8")
    sys.stdout.write(json.dumps(result) + "\n")
    return result
