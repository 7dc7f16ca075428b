"""The README's two commands on a machine that has only Python."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from bare_machines import BareMachine, DebianRoot, EmptyPath, why_no_debian_root

pytestmark = [pytest.mark.bare_machine, pytest.mark.timeout(900)]

# The environments of the default list whose tests call programs, and one whose tests call none.
ENVIRONMENTS = "wheels,local,postgres,examples,tools,docs"


@pytest.fixture(scope="module")
def machine() -> Iterator[BareMachine]:
    with TemporaryDirectory(prefix="bare-machine-") as folder:
        if reason := why_no_debian_root():
            print(f"no Debian to try it on ({reason}): using an empty PATH instead")
            yield EmptyPath.create(Path(folder))
        else:
            Path(folder).chmod(0o755)
            yield DebianRoot.create(Path(folder, "root"))


def test_the_tests_pass_and_say_what_they_skipped(machine: BareMachine) -> None:
    done = machine.run(f"python3 run_tests.py -p 2 -e {ENVIRONMENTS}", user="somebody")

    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed, 0 failed, \d+ skipped$", done.stdout, re.M), done.stdout
    for program in ("git", "ngircd", "mosquitto"):
        line = rf"^skipped: \d+, because {program} is not installed$"
        assert re.search(line, done.stdout, re.M), done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("user", ["root", "somebody"])
def test_the_demo_runs_and_visits_itself(user: str, machine: BareMachine) -> None:
    done = machine.run("python3 demo/run.py --check", user=user)

    assert done.returncode == 0, done.stdout
    assert re.search(r"kill a worker: .* gave the rest", done.stdout), done.stdout
    assert "Traceback" not in done.stdout
