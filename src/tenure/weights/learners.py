"""Every learner by name. Adding one is a file, a line here and a row in the shared test matrix."""

from __future__ import annotations

from tenure.modules.distil_lora import DistilLora
from tenure.weights.naive_sft import NaiveSft

LEARNERS: dict[str, type[NaiveSft] | type[DistilLora]] = {
    "naive-sft": NaiveSft,
    "distil-lora": DistilLora,
}
