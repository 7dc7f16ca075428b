"""The messages in the packages' sources that users can get: from exceptions, warnings and logs.

    python docs/tests/support/messages.py    # the messages missing on the page, and obsolete ones

A message is the constant text of the first argument of a call that raises, warns or logs. The text
may come from a constant or a function of a module in the same folder. The parts that vary are "…",
as on the page that explains the messages.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from repository import ROOT

__all__ = ["Message", "is_explained", "messages", "messages_of"]

PAGE = ROOT / "docs" / "troubleshooting" / "messages.md"

LOGS = {"info", "warning", "warn", "error", "exception", "critical"}
VIOLATIONS = {"complain", "fail"}
ERRORS = re.compile(
    r"\w*(Error|Warning)$|CannotStart|SessionLost|ExceptionGroup|ClientDisconnected|BodyTooLarge"
    r"|BodyBrokenOff|LifespanFailed|LoopClosed"
)
# These two become the body of a response with a status of 400 or more.
REFUSALS = {"BadRequest", "RefusedRequest"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Message:
    """One message, and its place in the source.

    Attributes:
        text: the message.
        outline: the same, but with "…" also for words that come from a local variable.
    """

    text: str
    outline: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


def messages() -> list[Message]:
    paths = sorted(ROOT.glob("packages/*/src/**/*.py"))
    return [message for path in paths for message in messages_of(path)]


def messages_of(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text("utf-8"))
    shared = texts_of_folder(path.parent) | texts_of_module(tree)
    for function in [tree, *functions_of(tree)]:
        named = shared | texts_of_names(function)
        for node in own_nodes(function):
            argument = message_argument(node)
            for text in [] if argument is None else texts_of(argument, named):
                if re.search(r"\w{2}", text):
                    outline = texts_of(argument, {})[0]
                    yield Message(text, outline, path, argument.lineno)


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function or a module, without those of the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, FUNCTIONS):
            yield child
            yield from own_nodes(child)


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


@cache
def texts_of_folder(folder: Path) -> dict[str, list[str]]:
    """Return the texts of the constants and the functions that the modules in a folder define.

    The key for a function is "name()". Only functions that are annotated as returning a str count.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.py")):
        found |= texts_of_module(ast.parse(path.read_text("utf-8")))
    return found


def texts_of_module(tree: ast.Module) -> dict[str, list[str]]:
    found = {name: texts for name, texts in texts_of_names(tree).items() if name.isupper()}
    for function in functions_of(tree):
        if function.returns is not None and ast.unparse(function.returns) == "str":
            found.setdefault(f"{function.name}()", []).extend(returned_texts(function))
    return found


def returned_texts(function: ast.AST) -> Iterator[str]:
    named = texts_of_names(function)
    for node in own_nodes(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from texts_of(node.value, named)


def texts_of_names(function: ast.AST) -> dict[str, list[str]]:
    """Return the texts that a function assigns to local variables, by the variable's name."""
    found: dict[str, list[str]] = {}
    for node in own_nodes(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).extend(texts_of(node.value, {}))
    return found


def message_argument(node: ast.AST) -> ast.expr | None:
    """Return the part of a statement or a call that is a message, if it has one."""
    match node:
        case ast.Assign(targets=[ast.Attribute(attr="stuck")], value=ast.JoinedStr() as text):
            return text
        case ast.Call(func=ast.Name(id=name), args=[*_, last]) if name in REFUSALS:
            return last
        case ast.Call(func=ast.Attribute(attr="time_out"), args=[first, *_]):
            return as_timeout(first)
        case ast.Call(func=ast.Name(id="log"), args=[first, *_]):  # a method of a logger
            return first
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if ERRORS.fullmatch(name):
            return first
        case ast.Call(func=ast.Attribute(value=owner, attr=name), args=[first, *rest]):
            return method_message(ast.unparse(owner), name, first, rest)
    return None


def as_timeout(text: ast.expr) -> ast.expr:
    """Return the message that `time_out` of asgiref-testing makes from ``text``."""
    parts = [ast.Constant("… "), *getattr(text, "values", [text]), ast.Constant(": ….")]
    return ast.copy_location(ast.JoinedStr(parts), text)


def method_message(owner: str, name: str, first: ast.expr, rest: list[ast.expr]) -> ast.expr | None:
    second = rest[0] if rest else None
    if owner.endswith("notices") or name == "log":  # the first is a key, or a level
        return second
    is_base_of_error = owner == "super()" and name == "__init__" and texts_of(first, {}) != ["…"]
    is_message = name in LOGS | VIOLATIONS or ERRORS.fullmatch(name) or is_base_of_error
    return first if is_message else None


def texts_of(node: ast.expr, named: dict[str, list[str]]) -> list[str]:
    """Return the possible texts of an expression, with "…" for each part that varies."""
    match node:
        case ast.Constant(value=str(text)):
            return [re.sub(r"%(?:\.\d)?[srdgf]", "…", text).strip()]
        case ast.JoinedStr():
            parts = [texts_of_part(part, named) for part in node.values]
            return ["".join(chosen).strip() for chosen in itertools.product(*parts)]
        case ast.BinOp(op=ast.Add()):
            ends = texts_of(node.right, named)
            return [start + end for start in texts_of(node.left, named) for end in ends]
        case ast.Call(func=ast.Attribute(value=text, attr="strip")):
            return texts_of(text, named)
        case ast.Name(id=name) if name in named:
            return named[name]
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if f"{name}()" in named:
            return named[f"{name}()"]
        case ast.IfExp():
            return texts_of(node.body, named) + texts_of(node.orelse, named)
        case _:
            return ["…"]


def texts_of_part(part: ast.expr, named: dict[str, list[str]]) -> list[str]:
    """Return the possible texts of a part of an f-string: a variable may hold whole words."""
    match part:
        case ast.Constant(value=value):
            return [str(value)]
        case ast.FormattedValue(value=ast.Name(id=name), conversion=-1):
            return [text for text in named.get(name, []) if " " in text] or ["…"]
        case _:
            return ["…"]


def is_explained(message: Message) -> bool:
    known = explained()
    return bool(known & {as_on_the_page(message.text), as_on_the_page(message.outline)})


def as_on_the_page(message: str) -> str:
    """The page cuts a message at a command in backticks, and explains a repeated one once."""
    text = re.sub(r"\s+", " ", message)
    text = re.sub(r"(installed together with) asgiref-\w+", r"\1 …", text)
    return text.partition("`")[0] + "…" if "`" in text else text


@cache
def explained() -> set[str]:
    return set(re.findall(r"^`(.+)`\n: \S", PAGE.read_text("utf-8"), re.M))


def main() -> None:
    """Print the messages that the page lacks, and those on it that no longer exist."""
    found = messages()
    for message in found:
        if not is_explained(message):
            print(f"missing: {message}")
    existing = {as_on_the_page(text) for each in found for text in (each.text, each.outline)}
    for text in sorted(explained() - existing):
        print(f"gone: {text}")


if __name__ == "__main__":
    main()
