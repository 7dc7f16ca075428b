"""Append the outcome of each test to a file as soon as it is known, one JSON object per line.

This file is copied into the environment of a suite, so it imports nothing of this project. It
writes each line at once, unlike a JUnit report: if a run hangs or dies, the earlier outcomes
remain. ``end`` marks that the suite finished. The file's name is read on import, because tests
clear the environment.
"""

import json
import os

OUTCOMES = os.environ["DEPENDENTS_OUTCOMES"]


def record(**line: object) -> None:
    with open(OUTCOMES, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
