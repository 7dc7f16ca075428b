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
WSGI_PAGE = PAGE.with_name("wsgi-to-asgi.md")
TEXT = PAGE.read_text("utf-8")
SERVE = re.findall(rf"^\$ ((?:{'|'.join(ON_PORT)}) .*)$", TEXT, re.M)
#: Text that only this module's block of its page contains.
MARKS = {"ticker": "signal.SIGTERM", "streams": '@site.post("/size")'}
INSTRUCTIONS_OF_DOCKER = {"FROM", "COPY", "RUN", "WORKDIR", "USER", "EXPOSE", "CMD"}


def blocks(language: str, page: Path = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


# The client's request waits in the socket's backlog until the server accepts it.
CLIENT = """\
import http.client, signal, socket, subprocess, sys

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    fd = listener.fileno()
    limit = "--timeout-graceful-shutdown 10"
    options = f"{application} --log-level critical --fd {{fd}} {{limit}}".split()
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *options], pass_fds=[fd], stderr=subprocess.PIPE
    )
{client}
    server.send_signal(signal.SIGTERM)
{then}
    print(server.communicate()[1].decode(), end="")
"""
STREAM = """\
    connection = http.client.HTTPConnection(*listener.getsockname())
    connection.request("GET", "/events")
    response = connection.getresponse()
    print(response.readline().decode(), end="")
"""
REST = """\
    print(response.read().decode(), end="")
"""
# The server asks for the body when the view reads it.
BROKEN_UPLOAD = """\
    connection = socket.create_connection(listener.getsockname())
    head = "Host: test", "Content-Length: 1000", "Expect: 100-continue"
    connection.sendall("\\r\\n".join(["POST /size HTTP/1.1", *head, "", ""]).encode())
    print(connection.recv(1000).decode().split("\\r")[0])
    connection.sendall(b"a part")
    connection.close()
"""
PAGE_OF_A_CLIENT = """\
```console
$ pip install --no-index --find-links dist asgiref-wsgi
$ pip install flask uvicorn
```

```python
{application}
```

Save this as `{module}.py`.

```python
{client}
```

Save this as `client.py`.

```console
$ python client.py
{shown}
```
"""


@pytest.mark.timeout(300)
def test_each_server_on_the_deployment_page_answers_several_requests(tmp_path: Path) -> None:
    Reader(tmp_path, repeats_requests=True).read(PAGE)


def read_with_client(folder: Path, page: Path, module: str, client: str, shown: str) -> None:
    """Serve the application that ``page`` saves as ``module`` to a client."""
    [block] = [each for each in blocks("python", page) if MARKS[module] in each]
    text = PAGE_OF_A_CLIENT.format(application=block, module=module, client=client, shown=shown)
    (folder / "page.md").write_text(text, "utf-8")
    (folder / "reader").mkdir()
    Reader(folder / "reader").read(folder / "page.md")


@pytest.mark.timeout(60)
def test_the_stream_on_the_deployment_page_ends_when_the_server_gets_sigterm(
    tmp_path: Path,
) -> None:
    client = CLIENT.format(application="ticker:application", client=STREAM, then=REST)

    read_with_client(tmp_path, PAGE, "ticker", client, "first event\ngoodbye")


@pytest.mark.timeout(60)
def test_the_upload_on_the_wsgi_page_logs_no_traceback_when_the_client_leaves(
    tmp_path: Path,
) -> None:
    client = CLIENT.format(application="streams:application", client=BROKEN_UPLOAD, then="")

    read_with_client(tmp_path, WSGI_PAGE, "streams", client, "HTTP/1.1 100 Continue")


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
