"""The output, the stored records and the exit status of a run of all benchmarks."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import readmes
import run
from page import ABOUT, page_of
from progress import Progress
from record import Kind, Machine, Measured, Record, Table

MACHINE = Machine("CPython 3.13.0", "A CPU", 2, "Linux 6.1")

#: A benchmark with one case, which meets its target, misses it, or crashes.
SCRIPT = """\
import sys
sys.path.insert(0, {benchmarks!r})
from pathlib import Path
from record import Kind, Measured, Record, Table
if {breaks}:
    sys.exit(3)
case = Measured("sensitive", 10, 30, [3.0] * 3, 2 if {met} else 4, {met})
tables = [Table("one call", Kind.COST, "µs", [case])]
record = Record({name!r}, "The bridge", tables, 3, "idle", 0.5)
record.write(Path(sys.argv[sys.argv.index("--json") + 1]))
sys.exit(0 if {met} else 1)
"""

WriteScript = Callable[..., None]


@pytest.fixture
def write_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteScript:
    """Replace the benchmarks with scripts, and their results with a folder of the test."""
    benchmarks = str(run.HERE)
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "PAGE", tmp_path / "page")
    monkeypatch.setattr(run, "BENCHMARKS", ())

    def write(name: str, met: bool = True, breaks: bool = False) -> None:
        text = SCRIPT.format(benchmarks=benchmarks, name=name, met=met, breaks=breaks)
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        monkeypatch.setattr(run, "BENCHMARKS", (*run.BENCHMARKS, run.Benchmark(name)))

    return write


def one_table(kind: Kind, name: str = "bridge") -> Record:
    case = Measured("sensitive", 10, 30, [3.0] * 3, 2, True, note="nothing")
    table = Table("one call", kind, "µs", [case])
    return Record(name, "The bridge", [table], 3, "idle", 0.5, MACHINE, "2026-11-23")


# The end of a run


def test_a_run_that_meets_all_targets_succeeds_and_writes_nothing(
    write_script: WriteScript, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_script("bridge")
    assert run.main(["python", "python"]) == 0
    shown = capsys.readouterr().out
    assert "nothing stored to compare with" in shown
    assert "all targets are met" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["bridge.py"]


def test_a_missed_target_fails_the_run_after_the_others_have_run(
    write_script: WriteScript, capsys: pytest.CaptureFixture[str]
) -> None:
    write_script("bridge", met=False)
    write_script("local")
    assert run.main(["python", "python"]) == 1
    shown = capsys.readouterr().out
    assert "=== local, 2 of 2" in shown
    assert shown.endswith("bridge: sensitive: missed its target, ratio 3.00 of 4\n")


def test_a_benchmark_that_breaks_fails_the_run_after_the_others_have_run(
    write_script: WriteScript, capsys: pytest.CaptureFixture[str]
) -> None:
    write_script("bridge", breaks=True)
    write_script("local")
    assert run.main(["python", "python"]) == 1
    shown = capsys.readouterr().out
    assert "=== local, 2 of 2" in shown
    assert shown.endswith("bridge: it broke, with status 3\n")


@pytest.mark.parametrize(("name", "program"), [("wsgi_servers", "wrk"), ("asgi_to_wsgi", "wrk")])
def test_a_benchmark_that_cannot_run_here_is_said_and_does_not_fail_the_run(
    name: str, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert run.main(["python", "python", "--only", name]) == 0
    assert f"not run: {program} is not installed" in capsys.readouterr().out


def test_the_page_has_words_for_every_benchmark() -> None:
    assert {benchmark.name for benchmark in run.BENCHMARKS} <= set(ABOUT)


@pytest.mark.parametrize(("load", "doubted"), [(2.0, False), (2.1, True)])
def test_figures_of_a_machine_on_which_others_were_at_work_are_doubted(
    load: float, doubted: bool
) -> None:
    record = replace(one_table(Kind.COST), load=load)
    assert ("measure again" in run.doubt(record)) is doubted


# Storing


def test_a_stored_run_is_what_the_next_one_is_compared_with(
    write_script: WriteScript, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_script("bridge")
    run.store([one_table(Kind.GROWTH, "bridge")], tmp_path / "results", tmp_path / "page")
    run.main(["python", "python"])
    assert "| sensitive | 3 (3 to 3) | 3 (3 to 3) | within the noise |" in capsys.readouterr().out


def test_a_run_leaves_its_figures_and_its_page_where_it_is_told(
    write_script: WriteScript, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_script("bridge")
    folder = tmp_path / "left" / "here"
    assert run.main(["python", "python", "--write", str(folder)]) == 0
    record = Record.read(folder / "bridge.json")
    assert [case.name for case in record.tables[0].cases] == ["sensitive"]
    assert str(folder) in capsys.readouterr().out
    assert (folder / "index.md").exists() is run.can_plot()


def test_storing_keeps_on_the_page_what_was_stored_before(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "page"
    run.store([one_table(Kind.GROWTH, "bridge_memory")], results, page)
    run.store([one_table(Kind.GROWTH, "local")], results, page)
    assert [record.name for record in run.stored(results)] == ["bridge_memory", "local"]
    assert (page / "index.md").read_text("utf-8") == page_of(run.stored(results))


def test_a_plot_is_drawn_of_ratios_the_same_from_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run.store([one_table(Kind.COST)], tmp_path / "results", tmp_path / "page")
    plot = tmp_path / "page" / "bridge.svg"
    first = plot.read_text("utf-8")
    run.store([], tmp_path / "results", tmp_path / "page")
    assert plot.read_text("utf-8") == first
    assert ">sensitive</text>" in first
    assert "(bridge.svg)" in (tmp_path / "page" / "index.md").read_text("utf-8")


def test_the_page_in_the_documentation_says_what_is_stored() -> None:
    records = run.stored(run.RESULTS)
    if records:
        assert (run.PAGE / "index.md").read_text("utf-8") == page_of(records)
    else:
        assert not (run.PAGE / "index.md").exists()


@pytest.mark.parametrize("block", readmes.BLOCKS, ids=lambda block: f"{block.file}:{block.name}")
def test_the_tables_of_the_readmes_say_what_is_stored(block: readmes.Block) -> None:
    records = {record.name: record for record in run.stored(run.RESULTS)}
    page = (run.HERE.parent / block.file).read_text("utf-8")
    assert page == readmes.with_block(page, block.name, block.text(records))


def test_a_table_is_written_between_its_marks_and_nothing_else_changes() -> None:
    page = "a\n<!-- figures of x: begin -->\nold\n<!-- figures of x: end -->\nz\n"
    new = "a\n<!-- figures of x: begin -->\n\n| new \\1 |\n\n<!-- figures of x: end -->\nz\n"
    assert readmes.with_block(page, "x", "| new \\1 |") == new
    assert readmes.with_block(new, "x", "| new \\1 |") == new


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"figures of y: begin"):
        readmes.with_block("<!-- figures of x: begin --><!-- figures of x: end -->", "y", "")


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_one_line_a_round() -> None:
    log = io.StringIO()
    with Progress("bridge", 3, log) as progress:
        progress.step()
        progress.detail("sensitive")
    assert log.getvalue() == "bridge: round 1 of 3\n"


def test_a_terminal_gets_one_line_that_is_written_anew_and_goes() -> None:
    terminal = Terminal()
    with Progress("bridge", 3, terminal) as progress:
        progress.step()
        progress.detail("sensitive")
    lines = terminal.getvalue().split("\r\x1b[K")
    assert lines == ["", "bridge: round 1 of 3", "bridge: round 1 of 3: sensitive", ""]
