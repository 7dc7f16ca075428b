"""Features that autodoc lacks: keys of TypedDicts, aliases of types, words as code.

- A TypedDict gets a table of its keys below its text, each with its own target
  (``:key:`asgiref.typing.HTTPScope.path```). The table shows the types as the source has them: at
  run time, ``Headers`` has been replaced by its value.
- ``.. alias:: asgiref.typing.Scope`` shows an alias of a type, its value and the text below it.
- A word in backticks that is not a public name appears as code.
"""

import ast
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, is_typeddict

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

__all__ = ["Alias", "Key", "alias_of", "keys_of", "setup"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a TypedDict: its type as the source has it, and whether it is always present."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of a type: its value and its text as the source has them."""

    value: str
    text: str


def without_not_required(annotation: ast.expr) -> tuple[ast.expr, bool]:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "NotRequired":
        return annotation.slice, False
    return annotation, True


def keys_of(value: type) -> list[Key]:
    """Return the keys in the order of the source."""
    [statement] = ast.parse(inspect.cleandoc("\n" + inspect.getsource(value))).body
    assert isinstance(statement, ast.ClassDef)
    keys = []
    for line in statement.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            annotation, required = without_not_required(line.annotation)
            keys.append(Key(line.target.id, ast.unparse(annotation), required))
    return keys


def modules_behind(facade: str) -> list[Path]:
    """Return the facade, and the private modules next to it."""
    path = Path(str(importlib.import_module(facade).__file__))
    return [path, *sorted(path.parent.glob("_*.py"))]


def alias_of(facade: str, name: str) -> Alias:
    """Find ``name: TypeAlias = value`` and the string below it, in the facade or its modules."""
    for path in modules_behind(facade):
        body = ast.parse(path.read_text("utf-8")).body
        for statement, below in zip(body, [*body[1:], None], strict=True):
            if (
                isinstance(statement, ast.AnnAssign)
                and ast.unparse(statement.target) == name
                and statement.value is not None
            ):
                text = below.value if isinstance(below, ast.Expr) else None
                if not isinstance(text, ast.Constant):
                    raise LookupError(f"{facade}.{name} has no text below it")
                return Alias(ast.unparse(statement.value), inspect.cleandoc(str(text.value)))
    raise LookupError(f"{facade} has no alias {name}")


class TypedDictKeys(SphinxDirective):
    """The table of a TypedDict's keys; `add_keys` writes it into the class's text."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        owner = self.arguments[0]
        module, _, name = owner.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        table = nodes.table(classes=["keys"])
        group = nodes.tgroup(cols=3)
        table += group
        group += [nodes.colspec(colwidth=width) for width in (25, 55, 20)]
        head = nodes.thead()
        head += self.row(*(nodes.Text(title) for title in ("key", "type", "present")))
        body = nodes.tbody()
        body += [self.key_row(module, name, key) for key in keys_of(value)]
        group += [head, body]
        return [table]

    def key_row(self, module: str, owner: str, key: Key) -> nodes.row:
        name = nodes.literal("", key.name)
        full = f"{module}.{owner}.{key.name}"
        name["ids"] = [make_id(self.env, self.state.document, "", full)]
        # Not in the Python domain, where "bytes" would be this key and not the type.
        self.env.domains.standard_domain.note_object("key", full, name["ids"][0], location=name)
        present = nodes.Text("always" if key.required else "optional")
        return self.row(name, self.linked(module, key.type), present)

    def linked(self, module: str, annotation: str) -> nodes.literal:
        """Return the type as code, with links for the public names of its module."""
        public = importlib.import_module(module).__all__
        code = nodes.literal()
        for word in re.split(r"(\w+)", annotation):
            if word in public:
                target = {"refdomain": "py", "reftype": "obj", "reftarget": f"{module}.{word}"}
                code += pending_xref("", nodes.Text(word), refdoc=self.env.docname, **target)
            else:
                code += nodes.Text(word)
        return code

    def row(self, *cells: nodes.Node) -> nodes.row:
        row = nodes.row()
        for cell in cells:
            row += nodes.entry("", nodes.paragraph("", "", cell))
        return row


class AliasDirective(SphinxDirective):
    """``.. alias:: module.Name``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        alias = alias_of(module, name)
        lines = [f".. py:type:: {name}", f"   :canonical: {alias.value}", ""]
        lines += [f"   {line}" for line in alias.text.splitlines()]
        node = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), self.content_offset, node)
        return node.children


def add_keys(
    app: Sphinx, what: str, name: str, value: object, options: Any, lines: list[str]
) -> None:
    """Put the table between the text of a TypedDict and its example."""
    if isinstance(value, type) and is_typeddict(value):
        example = next((at for at, line in enumerate(lines) if line.startswith(">>>")), len(lines))
        lines[example:example] = [f".. typed-dict-keys:: {name}", ""]


def show_unknown_word_as_code(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """Handle only the default role: an explicit role must find its target."""
    plain = node.get("reftype") == "obj" and "asgiref" not in node["reftarget"]
    return shown if plain else None


def source_of_others(app: Sphinx, module: str) -> tuple[str, dict[str, Any]] | None:
    """Suppress links to sources of other projects. None means: look for the source as usual."""
    return None if module.split(".")[0] == "asgiref" else ("", {})


def only_one_page_of_a_class(app: Sphinx, module: str, name: str) -> str | None:
    """Let the source of `CurrentThreadExecutor` link to asgiref.sync, not also to its old place."""
    return module if module == "asgiref.current_thread_executor" else None


def leave_out_pages_of_others(app: Sphinx) -> list[Any]:
    """Remove other projects' modules, which viewcode would list without a source."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name in modules if name.split(".")[0] != "asgiref"]:
        del modules[name]
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    directives: dict[str, type[Directive]] = {
        "typed-dict-keys": TypedDictKeys,
        "alias": AliasDirective,
    }
    app.add_crossref_type("key", "key", objname="key of a TypedDict")
    for name, directive in directives.items():
        app.add_directive(name, directive)
    app.connect("autodoc-process-docstring", add_keys)
    app.connect("missing-reference", show_unknown_word_as_code, priority=900)
    app.connect("viewcode-find-source", source_of_others)
    app.connect("viewcode-follow-imported", only_one_page_of_a_class)
    app.connect("html-collect-pages", leave_out_pages_of_others, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
