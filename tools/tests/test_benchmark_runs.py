"""The output, the stored records and the exit status of a run of all benchmarks."""

import asyncio
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import harness
import measured
import pages
import pytest
import run
from record import Measured, Record, Table, compared

MACHINE = "CPython 3.13.0, A CPU, 2 cores, Linux 6.1"

AddBenchmark = Callable[..., None]


@pytest.fixture
def add_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddBenchmark:
    """Replace the benchmarks, and their results with a folder of the test."""
    benchmarks: dict[str, dict[str, str]] = {}
    outcomes: dict[str, Callable[[], Table]] = {}
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "BENCHMARKS", benchmarks)
    monkeypatch.setattr(run, "measure", lambda name, options: ([outcomes[name]()], "idle"))

    def add(name: str, target: float = 2, breaks: bool = False) -> None:
        def measure() -> Table:
            if breaks:
                raise OSError("no such interpreter")
            case = compared("sensitive", [10] * 3, [30] * 3, target)
            return Table("one call", "µs", [case])

        benchmarks[name], outcomes[name] = {"subject": "The bridge"}, measure

    return add


def record_of(*tables: Table, name: str = "bridge") -> Record:
    return Record(name, "The bridge", list(tables), 3, "idle", 0.5, MACHINE, "2026-11-23")


def one_table(unit: str = "µs") -> Table:
    return Table("one call", unit, [compared("sensitive", [10] * 3, [30] * 3, 2)])


# Timing


def write_cases(folder: Path, ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Write cases with these seconds per call; return the Python of theirs."""
    (folder / "slow_cases.py").write_text(
        textwrap.dedent(f"""
            import os, sys
            sys.path.insert(0, {str(run.HERE)!r})
            from measured import answer

            def case(seconds):
                return lambda count: seconds * count

            given = {theirs!r} if "THEIRS" in os.environ else {ours!r}
            answer({{name: case(seconds) for name, seconds in given.items()}})
        """),
        "utf-8",
    )
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nTHEIRS=1 exec {sys.executable} "$@"\n', "utf-8")
    python.chmod(0o755)
    return str(python)


def test_pyperf_times_each_case_in_both_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = write_cases(tmp_path, {"a": 2e-6, "other, a": 5e-6, "hop": 1e-6}, {"a": 6e-6})
    monkeypatch.setattr(harness, "HERE", tmp_path)
    given = {"calls": 10, "target": 4, "limits": {"hop": 1.5}, "at_most": 9}
    timing = harness.Timing("one call", {"a": given}, {"hop": 5}, ("other",), theirs="others")
    table = harness.time_table("slow", timing, harness.Options(sys.executable, theirs, 2))
    [case] = table.cases
    assert (case.ours, case.theirs) == pytest.approx((2, 6))
    assert case.samples == pytest.approx([3, 3])
    assert case.limits == pytest.approx({"1.5 x (hop)": 1.5, "limit": 9})
    assert case.peers == pytest.approx({"other": 5})
    assert not case.met
    assert table.peers == pytest.approx({"hop": 1})


def test_each_round_starts_with_a_different_side() -> None:
    orders = list(harness.turns("one call", 3, ["theirs", "ours"]))
    assert orders == [["theirs", "ours"], ["ours", "theirs"], ["theirs", "ours"]]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_case_of_several_calls_at_once_makes_the_given_number_of_calls(at_once: int) -> None:
    running, highest = Counter[str](), Counter[str]()

    async def call() -> None:
        running.update(["made", "now"])
        highest["now"] = max(highest["now"], running["now"])
        await asyncio.sleep(0)
        running["now"] -= 1

    assert measured.each(call, at_once)(6) > 0
    assert (running["made"], highest["now"]) == (6, at_once)


def test_every_limit_names_a_case_or_a_peer_of_its_table() -> None:
    for benchmark in harness.BENCHMARKS.values():
        for table in (harness.Timing(**each) for each in benchmark.get("tables", ())):
            known = {*table.cases, *table.all_peers()}
            assert {
                each for case in table.cases.values() for each in case.get("limits", ())
            } <= known


# The end of a run


def test_a_run_that_meets_all_targets_succeeds_and_writes_nothing(
    add_benchmark: AddBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_benchmark("bridge")
    assert run.main(["python", "python"]) == 0
    assert "all targets are met" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_missed_target_fails_the_run_after_the_others_have_run(
    add_benchmark: AddBenchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    add_benchmark("bridge", target=4)
    add_benchmark("local")
    assert run.main(["python", "python"]) == 1
    shown = capsys.readouterr().out
    assert "=== local, 2 of 2" in shown
    missed = "asgiref 3.13 30.0 µs, here 10.0 µs, ratio 3.0, target 4, met NO"
    assert shown.endswith(f"bridge: one call sensitive, {missed}\n")


def test_a_benchmark_that_breaks_fails_the_run_after_the_others_have_run(
    add_benchmark: AddBenchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    add_benchmark("bridge", breaks=True)
    add_benchmark("local")
    assert run.main(["python", "python"]) == 1
    shown = capsys.readouterr().out
    assert "=== local, 2 of 2" in shown
    assert shown.endswith("bridge: it broke: no such interpreter\n")


@pytest.mark.parametrize("name", ["wsgi_servers", "asgi_to_wsgi"])
def test_a_benchmark_that_cannot_run_here_is_reported_and_does_not_fail_the_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert run.main(["python", "python", "--only", name]) == 0
    assert "not run: not installed: wrk" in capsys.readouterr().out


@pytest.mark.parametrize(("load", "doubted"), [(2.0, False), (2.1, True)])
def test_figures_of_a_busy_machine_are_marked_as_doubtful(
    load: float, doubted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert ("measure again" in run.report(replace(record_of(), load=load))) is doubted


@pytest.mark.parametrize(
    "other",
    [
        replace(record_of(one_table()), machine="another machine"),
        replace(record_of(one_table()), conditions="one core kept busy"),
    ],
    ids=["machine", "conditions"],
)
def test_the_report_says_if_the_machine_or_its_load_differs_from_the_stored_run(
    other: Record, add_benchmark: AddBenchmark, tmp_path: Path
) -> None:
    add_benchmark("bridge")
    run.store([record_of(one_table())], run.RESULTS, tmp_path)
    assert "The stored run differs" in run.report(other)
    assert "The stored run differs" not in run.report(record_of(one_table()))


# Storing


def test_a_stored_run_is_what_the_next_one_is_compared_with(
    add_benchmark: AddBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_benchmark("bridge")
    run.store([record_of(one_table())], run.RESULTS, tmp_path)
    run.main(["python", "python"])
    assert "| 3 (3 to 3) | within the noise |" in capsys.readouterr().out


def test_a_run_leaves_its_figures_and_its_plots_where_it_is_told(
    add_benchmark: AddBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_benchmark("bridge")
    folder = tmp_path / "left" / "here"
    assert run.main(["python", "python", "--write", str(folder)]) == 0
    record = Record.read(folder / "bridge.json")
    assert [case.name for case in record.tables[0].cases] == ["sensitive"]
    assert str(folder) in capsys.readouterr().out
    assert (folder / "bridge.svg").exists()


def test_a_plot_shows_each_case_in_the_colours_of_the_reader_s_theme(tmp_path: Path) -> None:
    missed = compared("`write` < 3", [30] * 3, [10] * 3, 2)
    table = Table("one call", "µs", [*one_table().cases, missed])
    run.store([record_of(table)], tmp_path, tmp_path)
    plot = (tmp_path / "bridge.svg").read_text("utf-8")
    texts = [each.text for each in ElementTree.fromstring(plot).iter() if each.text]
    assert {"sensitive", "write < 3", "3.0", "0.33"} <= set(texts)
    assert "prefers-color-scheme: dark" in plot
    assert [plot.count(f'<rect class="{kind}"') for kind in ("c0", "c1")] == [1, 1]


def test_a_table_of_contenders_gets_a_plot_of_their_times(tmp_path: Path) -> None:
    table = one_table()
    cases = [replace(case, peers={"raw": 5.0, "a2wsgi": 90.0}) for case in table.cases]
    run.store([record_of(replace(table, cases=cases))], tmp_path, tmp_path)
    plot = (tmp_path / "bridge-peers.svg").read_text("utf-8")
    texts = [each.text for each in ElementTree.fromstring(plot).iter() if each.text]
    assert {"here", "asgiref 3.13", "raw", "a2wsgi", "90.0 µs"} <= set(texts)


def test_a_plot_can_be_drawn_again_from_the_stored_figures(tmp_path: Path) -> None:
    table = Table("one call", "µs", [compared("sensitive", [10] * 3, [10.0049] * 3, 2)])
    run.store([record_of(table)], tmp_path, tmp_path)
    first = (tmp_path / "bridge.svg").read_text("utf-8")
    run.store(run.stored(tmp_path).values(), tmp_path, tmp_path)
    assert (tmp_path / "bridge.svg").read_text("utf-8") == first


def test_a_record_without_ratios_has_no_plot(tmp_path: Path) -> None:
    run.store([record_of(Table("calls", "kB", [Measured("a", 1)]))], tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bridge.json"]


# The pages


def test_the_page_of_the_benchmarks_shows_every_benchmark() -> None:
    page = (run.PLOTS / "index.md").read_text("utf-8")
    missing = {name for name in run.BENCHMARKS if f"figures of {name} with targets:" not in page}
    assert missing == set()


@pytest.mark.parametrize(
    "path", pages.marked_pages(), ids=lambda path: path.relative_to(pages.ROOT).as_posix()
)
def test_a_page_shows_the_stored_figures(path: Path) -> None:
    page = path.read_text("utf-8")
    assert page == pages.with_figures(page, run.stored(run.RESULTS))


def test_a_plot_of_the_documentation_shows_the_stored_figures(tmp_path: Path) -> None:
    run.store(run.stored(run.RESULTS).values(), tmp_path, tmp_path)
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_text("utf-8") for path in run.PLOTS.glob("*.svg")}


def test_figures_are_written_between_their_marks_and_nothing_else_changes() -> None:
    page = "a\n<!-- figures of bridge: begin -->\nold\n<!-- figures of bridge: end -->\nz\n"
    new = pages.with_figures(page, {"bridge": record_of(one_table())})
    assert new.startswith("a\n<!-- figures of bridge: begin -->\n\nMedians of 3 alternating rounds")
    row = "| sensitive | 30.0 µs | 10.0 µs | 3.0 |"
    assert new.endswith(f"\n{row}\n\n<!-- figures of bridge: end -->\nz\n")
    assert pages.with_figures(new, {"bridge": record_of(one_table())}) == new


def test_a_mark_of_an_unknown_benchmark_is_refused() -> None:
    page = "<!-- figures of y: begin -->\n<!-- figures of y: end -->"
    with pytest.raises(ValueError, match="'y'"):
        pages.with_figures(page, {})
