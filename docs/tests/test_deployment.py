"""Each server of the deployment page serves the page's application, and its files are valid."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from instructions import instructions
from reader import ON_PORT, Reader
from repository import ROOT

PAGE = ROOT / "docs" / "how-to" / "deployment.md"
TEXT = PAGE.read_text("utf-8")
SERVE = re.findall(rf"^\$ ((?:{'|'.join(ON_PORT)}) .*)$", TEXT, re.M)
INSTRUCTIONS_OF_DOCKER = {"FROM", "COPY", "RUN", "WORKDIR", "USER", "EXPOSE", "CMD"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


[TICKER] = [each for each in blocks("python") if "SIGTERM" in each]
# The request waits in the socket's backlog until the server accepts it.
CLIENT = """\
import http.client, signal, socket, subprocess, sys

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    fd = listener.fileno()
    options = f"ticker:application --log-level critical --fd {fd}".split()
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", *options], pass_fds=[fd])
    connection = http.client.HTTPConnection(*listener.getsockname())
    connection.request("GET", "/events")
    response = connection.getresponse()
    print(response.readline().decode(), end="")
    server.send_signal(signal.SIGTERM)
    print(response.read().decode(), end="")
    server.wait()
"""
PAGE_OF_THE_TICKER = f"""\
```console
$ pip install --no-index --find-links dist asgiref-wsgi
$ pip install flask uvicorn
```

```python
{TICKER}
```

Save this as `ticker.py`.

```python
{CLIENT}
```

Save this as `client.py`.

```console
$ python client.py
first event
goodbye
```
"""


@pytest.mark.timeout(300)
def test_each_server_of_the_deployment_page_answers_several_requests(tmp_path: Path) -> None:
    Reader(tmp_path, repeats_requests=True).read(PAGE)


@pytest.mark.timeout(60)
def test_the_stream_of_the_deployment_page_ends_when_the_server_gets_sigterm(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE_OF_THE_TICKER, "utf-8")
    folder = tmp_path / "reader"
    folder.mkdir()

    Reader(folder).read(page)


def test_every_server_has_a_command() -> None:
    assert {command.partition(" ")[0] for command in SERVE} == set(ON_PORT)


def test_the_dockerfile_installs_with_the_recorded_commands() -> None:
    [dockerfile] = blocks("dockerfile")
    steps = [shlex.split(line) for line in dockerfile.splitlines() if line]
    recorded = " ".join(each.text for each in instructions())

    assert {step[0] for step in steps} <= INSTRUCTIONS_OF_DOCKER
    pip = [line.partition("pip ")[2] for line in dockerfile.splitlines() if "pip " in line]
    ours = [command.replace("/dist", "dist") for command in pip if "asgiref" in command]
    assert len(ours) == 1
    assert all(f"$ pip {command}\n" in recorded for command in [*ours, pip[0]])


def test_the_kubernetes_files_are_valid_and_fit_together() -> None:
    [files] = blocks("yaml")
    deployment, service = yaml.safe_load_all(files)

    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    [container] = template["spec"]["containers"]
    [port] = container["ports"]
    [target] = service["spec"]["ports"]
    assert {target["targetPort"], container["readinessProbe"]["httpGet"]["port"]} == {
        port["containerPort"]
    }
    graceful = int(container["args"][container["args"].index("--timeout-graceful-shutdown") + 1])
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert template["spec"]["terminationGracePeriodSeconds"] > graceful + waits
