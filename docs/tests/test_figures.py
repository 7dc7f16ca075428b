"""The figures in prose come from the stored results: new results that differ fail this test."""

import json
import re
from typing import Any

import pytest
from repository import ROOT

RESULTS = ROOT / "benchmarks" / "results"
README = " ".join((ROOT / "README.md").read_text("utf-8").split())
WHY = " ".join((ROOT / "docs" / "why.md").read_text("utf-8").split())

#: Figures vary from run to run: prose rounds them, and stays true in the meantime.
TOLERANCE = 0.25

NUMBER = r"([\d,.]+)"


def case(record: str, name: str) -> dict[str, Any]:
    data = json.loads((RESULTS / f"{record}.json").read_text("utf-8"))
    [found] = [each for table in data["tables"] for each in table["cases"] if each["name"] == name]
    return found


def peer(record: str, name: str) -> float:
    data = json.loads((RESULTS / f"{record}.json").read_text("utf-8"))
    [found] = [table["peers"][name] for table in data["tables"] if name in table["peers"]]
    return float(found)


def figures(pattern: str, text: str) -> list[float]:
    """Return the figures that stand in the text where the pattern has {}."""
    found = re.search(re.escape(pattern).replace(re.escape("{}"), NUMBER), text)
    assert found, f"the page does not contain: {pattern}"
    return [float(each.replace(",", "")) for each in found.groups()]


def expect(pattern: str, text: str, *measured: float) -> None:
    assert figures(pattern, text) == pytest.approx(list(measured), rel=TOLERANCE, abs=1), pattern


def ratio(record: str, name: str) -> float:
    found = case(record, name)
    return float(found["theirs"] / found["ours"])


def test_the_reasons_of_the_readme_hold() -> None:
    assert "less than half the time, a WSGI request a third" in README
    assert ratio("bridge", "sensitive") > 2
    assert ratio("wsgi", "hello") > 2.5
    assert "a twentieth" in README
    assert "a twentieth" in WHY
    assert ratio("bridge", "async_to_sync at top level") > 16


def test_the_share_of_broken_responses_is_the_measured_one() -> None:
    theirs = float(case("wsgi_servers", "asgiref 3.13, uvicorn")["note"].rstrip(" %"))
    ours = float(case("wsgi_servers", "here, uvicorn")["note"].rstrip(" %"))

    assert ours == 0
    expect("that breaks {} % of the responses", README, theirs)
    expect("{} % of the responses of the benchmark were errors", WHY, theirs)


def test_the_comparison_has_the_measured_times() -> None:
    call, script = case("bridge", "sensitive"), case("bridge", "async_to_sync at top level")
    to_thread, anyio = peer("bridge", "asyncio.to_thread"), peer("bridge", "anyio.to_thread")

    expect(
        "| a blocking function from async code | {} µs | {} µs | {} µs | {} µs |",
        README,
        call["ours"],
        call["theirs"],
        to_thread,
        anyio,
    )
    expect(
        "| a coroutine from a plain script | {} µs | {} µs |",
        README,
        script["ours"],
        script["theirs"],
    )
    expect("takes {} µs here, {} µs with asgiref", WHY, call["ours"], call["theirs"])
    expect("{} µs with `asyncio.to_thread` and {} µs with", WHY, to_thread, anyio)


def test_the_comparison_with_a2wsgi_has_the_measured_times() -> None:
    wsgi, asgi = case("wsgi", "hello"), case("asgi_to_wsgi", "hello")

    expect(
        "`WsgiToAsgi` takes {} µs here and {} µs there",
        README,
        wsgi["ours"],
        peer("wsgi", "a2wsgi, hello"),
    )
    expect("`AsgiToWsgi` {} µs and {} µs", README, asgi["ours"], asgi["theirs"])


def test_the_share_of_idle_scopes_is_the_measured_one() -> None:
    found = case("server", "50,000 idle scopes")

    expect("50,000 idle scopes use {} % of a core | no polling: {} %", WHY, found["theirs"], 0)
    assert found["ours"] < 0.5


def test_no_test_of_djangos_suite_passes_only_on_asgiref() -> None:
    results = json.loads((ROOT / "dependents" / "results.json").read_text("utf-8"))
    newest = max(
        (each for each in results if each["suite"] == "django"),
        key=lambda each: (each["version"], each["python"]),
    )

    [claimed] = figures("More than {} tests of Django's suite", README)
    assert newest["results"]["passed"] > claimed
    assert [each["suite"] for each in results if each["results"] and each["results"]["worse"]] == []
