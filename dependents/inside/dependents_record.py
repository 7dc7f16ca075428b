"""Append the outcome of each test to a file, one JSON object a line, as soon as it is known.

Copied into the environment of a suite, so it imports nothing of this project. A line at once, and
no report at the end as JUnit's: of a run that hangs or dies, what came before is still there.
``end`` says that the suite came to its own end. The file's name is looked up at once: tests clear
the environment.
"""

import json
import os

OUTCOMES = os.environ["DEPENDENTS_OUTCOMES"]


def record(**line: object) -> None:
    with open(OUTCOMES, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
