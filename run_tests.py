#!/usr/bin/env python3
"""Run the tests: ``python3 run_tests.py`` (``--help``); needs only Python 3.11 or newer.

tox does the work (see ``tox.ini``). The first run of this script installs tox into
``.tox-bootstrap/`` in this checkout, never into the running Python. Then the script starts tox, and
at the end counts the tests that passed, failed, or were skipped because a program is missing.

The tests run on the interpreter that runs this script, unless an environment names another one.

This file uses only syntax that Python 3.6 can parse, so users of an old Python get a message
instead of a traceback.
"""

import argparse
import configparser
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

import command_line  # noqa: E402 - from tools/
import private_environment  # noqa: E402

TOX_REQUIREMENT = "tox>=4.24,<5"
REPORTS = ROOT / ".tox" / "reports"

DESCRIPTION = """\
Run the tests. Without arguments, run the default list, with as many environments at a time as this
machine has cores. The first run installs tox into .tox-bootstrap/."""

EPILOG = """\
examples:
  python3 run_tests.py                        the default list
  python3 run_tests.py list                   the environments, and what each does
  python3 run_tests.py -e wheels,sync         one package
  python3 run_tests.py -e wheels,sync -- -k cancel
  python3 run_tests.py -m pythons             a label of tox.ini
"""


def parse(arguments):
    """The options of the command line, and the arguments after two dashes, for the tests."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        prog="run_tests.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="run_tests.py [-h] [--version] "
        "[run | list] [-e NAMES | -m LABEL] [-p N] [-r] [-v] [-- ...]",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["run", "list"],
        default="run",
        help="run the tests, or list the environments (default: run)",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s of asgiref {command_line.checkout_version()}",
        help="show the version of this checkout and exit",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-e",
        metavar="NAMES",
        dest="environments",
        help="run these environments of tox.ini, separated by commas (default: its env_list)",
    )
    which.add_argument(
        "-m",
        metavar="LABEL",
        dest="label",
        choices=labels(),
        help=f"run the environments of a label of tox.ini: {', '.join(labels())} (default: none)",
    )
    parser.add_argument(
        "-p",
        metavar="N",
        dest="parallel",
        type=parse_count,
        help="run N environments at a time and show the output of those that fail; 1 shows all "
        "output as it comes (default: the number of cores, but 1 with -e or -m)",
    )
    parser.add_argument(
        "-r", action="store_true", dest="recreate", help="recreate the environments"
    )
    parser.add_argument("-v", action="store_true", dest="verbose", help="show what tox does")
    options = parser.parse_args(arguments[:split])
    if options.command == "list" and (options.environments or options.label):
        parser.error("list takes neither -e nor -m")
    return options, arguments[split:]


def labels():
    """The labels of tox.ini: for any other label, tox itself fails without a message."""
    settings = configparser.RawConfigParser()
    settings.read(str(ROOT / "tox.ini"), encoding="utf-8")
    lines = settings["tox"]["labels"].splitlines()
    return [line.partition("=")[0].strip() for line in lines if "=" in line]


def parse_count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of environments, 1 or more")
    return int(text)


def tox_arguments(options, rest):
    """Return tox's arguments for the same command."""
    if options.command == "list":
        return ["list"]
    chosen = []
    if options.environments:
        chosen += ["-e", options.environments]
    if options.label:
        chosen += ["-m", options.label]
    count = options.parallel or (1 if chosen else os.cpu_count() or 1)
    how = ["run"] if count == 1 else ["run-parallel", "--parallel-no-spinner", "-p", str(count)]
    verbose = ["-v"] if options.verbose else []
    recreate = ["-r"] if options.recreate else []
    return [*verbose, *how, *recreate, *chosen, *rest]


def prepare():
    """Install tox into a private environment unless that exists; return its Python."""
    folder = ROOT / ".tox-bootstrap"
    for written in (folder, ROOT / ".tox"):
        private_environment.require_writable(written)
    # One environment per interpreter version, so that another python3 never uses this one's.
    environment = folder / ".".join(map(str, sys.version_info[:3]))
    complete = environment / "complete"
    with private_environment.only_one(folder):
        if not complete.exists():
            print(f"Preparing {folder.name} with {TOX_REQUIREMENT} ...", flush=True)
            pip = private_environment.make_environment(environment)
            private_environment.call([*pip, "-q", "install", TOX_REQUIREMENT], "tox")
            complete.touch()
    return private_environment.python_of(environment)


def run_tox(python, arguments):
    """Run tox until it ends. tox handles Ctrl-C itself, and then ends its children in order."""
    process = subprocess.Popen([str(python), "-m", "tox", *arguments], cwd=str(ROOT))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    return process.wait()


def main(arguments):
    try:
        private_environment.refuse_old_python()
        options, rest = parse(arguments)
        python = prepare()
    except (private_environment.CannotPrepare, KeyboardInterrupt) as error:
        return private_environment.stopped("run_tests.py", error)
    import test_summary

    shutil.rmtree(str(REPORTS), ignore_errors=True)
    status = run_tox(python, tox_arguments(options, rest))
    status = test_summary.tell(REPORTS, status)
    if status and private_environment.is_offline(python):
        print(
            f"run_tests.py: {private_environment.connect('what the tests need')}", file=sys.stderr
        )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
