"""Where tasks are evaluated: in this process, in one process per core, or on a Ray cluster.

Whatever is chosen, results and their content keys are the same; no torch here.
"""

from __future__ import annotations

NAMES = ("auto", "inline", "processes", "ray")
