"""Tenure: a runtime in which a language model learns on the job.

Read `runtime.py` for a request and `sleep/cycle.py` for a night; everything else serves those two.
"""

__version__ = "0.1.0"
