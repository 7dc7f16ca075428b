"""Require that pyright knows the type of every public name of the installed wheels.

Needs ``pyright``. A name counts as known if pyright needs no inference for its type, nor for any
type that it refers to: another type checker may infer a different type. The exit status of
``pyright --verifytypes`` counts only the few names that are not defined in private modules.
"""

import json
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # `python -I` does not add it

from command_line import make_parser


def main() -> None:
    make_parser("require that pyright knows the type of every public name").parse_args()
    command = ["pyright", "--ignoreexternal", "--outputjson", "--verifytypes", "asgiref"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    names = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    unknown = [each for each in names if not each["isTypeKnown"]]
    for each in unknown:
        print(each["name"], *(diagnostic["message"] for diagnostic in each["diagnostics"]))
    print(f"the types of {len(names) - len(unknown)} of {len(names)} public names are known")
    sys.exit(bool(unknown) or not names)


if __name__ == "__main__":
    main()
