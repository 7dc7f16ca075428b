"""``pip install -e .[tests]`` and ``pytest`` work in a package's folder."""

import pytest
from distributions import ALL, DIST, Distribution
from environments import Environment

pytestmark = [pytest.mark.development, pytest.mark.timeout(900)]


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.name)
def test_an_editable_install_with_the_tests_extra_passes_pytest_in_the_packages_folder(
    distribution: Distribution, fresh_environment: Environment
) -> None:
    # Our requirements come from dist/, because no index has them yet.
    requirement = f"{distribution.folder}[tests]"
    fresh_environment.pip("install", "--find-links", DIST, "--editable", requirement)

    run = fresh_environment.attempt(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"), cwd=distribution.folder, timeout=800
    )

    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert " passed" in run.stdout
    files = fresh_environment.module_files([distribution.module])
    assert files[distribution.module].startswith(str(distribution.folder))
