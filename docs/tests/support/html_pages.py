"""The links of an HTML page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The targets and the links of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if target := values.get("id") or values.get("name"):
            self.targets.add(target)
        if link := values.get("href" if tag in {"a", "link"} else "src"):
            self.links.append(link)
