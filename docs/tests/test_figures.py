"""The figures in prose come from the stored results: new results that differ fail this test."""

import json
import re
from typing import Any

import pytest
from repository import ROOT

RESULTS = ROOT / "benchmarks" / "results"
README = " ".join((ROOT / "README.md").read_text("utf-8").split())
WHY = " ".join((ROOT / "docs" / "why.md").read_text("utf-8").split())

#: Figures vary from run to run. Prose rounds them, so it stays true if they vary this much.
TOLERANCE = 0.25

NUMBER = r"([\d,.]+)"


#: The names of cases in the results, in the order of preference.
SENSITIVE = ("`sync_to_async`, thread-sensitive", "sensitive")
TOP_LEVEL = ("`async_to_sync` at top level", "async_to_sync at top level")
IDLE = ("50,000 idle scopes, share of a core", "50,000 idle scopes")


def case(record: str, *names: str) -> dict[str, Any]:
    data = json.loads((RESULTS / f"{record}.json").read_text("utf-8"))
    cases = [each for table in data["tables"] for each in table["cases"]]
    [found] = [each for each in cases if each["name"] in names]
    return found


def failed(name: str) -> float:
    """Return the share of failed responses of a server, in percent."""
    found = case("wsgi_servers", name)
    share = found.get("columns", {}).get("failed") or found["note"]
    return float(share.rstrip(" %"))


def peer(record: str, name: str) -> float:
    data = json.loads((RESULTS / f"{record}.json").read_text("utf-8"))
    [found] = [table["peers"][name] for table in data["tables"] if name in table["peers"]]
    return float(found)


def figures(pattern: str, text: str) -> list[float]:
    """Return the figures that the text has where the pattern has {}."""
    found = re.search(re.escape(pattern).replace(re.escape("{}"), NUMBER), text)
    assert found, f"the page does not contain: {pattern}"
    return [float(each.replace(",", "")) for each in found.groups()]


def expect(pattern: str, text: str, *measured: float) -> None:
    assert figures(pattern, text) == pytest.approx(list(measured), rel=TOLERANCE, abs=1), pattern


def ratio(record: str, *names: str) -> float:
    found = case(record, *names)
    return float(found["theirs"] / found["ours"])


def test_the_readmes_reasons_hold() -> None:
    assert "less than half the overhead, a WSGI request takes a third of the time" in README
    assert ratio("bridge", *SENSITIVE) > 2
    assert ratio("wsgi", "hello") > 2.5
    assert "a twentieth" in README
    assert "a twentieth" in WHY
    assert ratio("bridge", *TOP_LEVEL) > 16


def test_the_share_of_broken_responses_is_the_measured_one() -> None:
    theirs = failed("asgiref 3.13, uvicorn")

    assert failed("here, uvicorn") == 0
    expect("a load where {} % of the responses", README, theirs)
    expect("{} % of the responses in the benchmark were errors", WHY, theirs)


def test_the_comparison_has_the_measured_times() -> None:
    call, script = case("bridge", *SENSITIVE), case("bridge", *TOP_LEVEL)
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
        wsgi["peers"]["a2wsgi"],
    )
    expect("`AsgiToWsgi` takes {} µs, compared with {} µs", README, asgi["ours"], asgi["theirs"])


def test_the_share_of_idle_scopes_is_the_measured_one() -> None:
    found = case("server", *IDLE)

    expect("50,000 idle scopes use {} % of a core | no polling: {} %", WHY, found["theirs"], 0)
    assert found["ours"] < 0.5


def test_no_test_of_djangos_suite_passes_only_on_asgiref() -> None:
    runs = json.loads((ROOT / "dependents" / "results.json").read_text("utf-8"))
    results = [(each["suite"], each.get("results") or each) for each in runs]

    [claimed] = figures("More than {} tests in Django's suite", README)
    assert max(each["passed"] for suite, each in results if suite == "django") > claimed
    assert [suite for suite, each in results if each.get("worse")] == []
