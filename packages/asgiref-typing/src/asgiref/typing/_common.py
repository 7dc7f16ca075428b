"""What the scopes and events of several protocols are made of.

How the TypedDicts of this package read the specification:

- a key that the specification calls optional is NotRequired, whoever sends it: a reader then uses
  ``event.get("more_body", False)``, a writer may leave it out. Every other key is required;
- ``type`` is a Literal, so that a type checker narrows a union of events by comparing it;
- what the specification calls an iterable of two-item iterables is an iterable of tuples, which is
  what servers send and what applications of asgiref's types already write;
- where the specification leaves the contents to the application (``state``, ``info``, the details
  of an extension), the values are not narrowed any further.
"""

from collections.abc import Iterable
from typing import Literal, NotRequired, TypeAlias, TypedDict

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Header lines in order: pairs of a lower-case name and a value, as bytes, duplicates included."""

Extensions: TypeAlias = dict[str, dict[object, object]]
"""By the name of each extension that the server offers, its details; ``{}`` for most of them."""


class ASGIVersions(TypedDict):
    """Under ``scope["asgi"]``: which specification the server follows.

    ``version`` is that of ASGI itself and gives the calling style; ``spec_version`` is that of the
    protocol named by the scope's type, for example "2.5" for http. Without it "2.0" is meant (for
    the lifespan protocol "1.0").

    >>> ASGIVersions(version="3.0", spec_version="2.5")
    {'version': '3.0', 'spec_version': '2.5'}
    """

    version: Literal["2.0"] | Literal["3.0"]
    spec_version: NotRequired[str]


class TLSExtension(TypedDict):
    """The contents of ``scope["extensions"]["tls"]`` on a TLS connection (the ASGI TLS extension).

    Certificates are PEM text; ``client_cert_name`` is a distinguished name after RFC 4514;
    ``tls_version`` and ``cipher_suite`` are the numbers of the TLS registries (0x0304 is TLS 1.3).
    None, or an absent key, means that the server cannot tell.

    >>> tls: TLSExtension = {"server_cert": None, "tls_version": 0x0304, "cipher_suite": 0x1301}
    >>> tls["tls_version"] == 0x0304 and tls.get("client_cert_name") is None
    True
    """

    server_cert: str | None
    client_cert_chain: NotRequired[Iterable[str]]
    client_cert_name: NotRequired[str | None]
    client_cert_error: NotRequired[str | None]
    tls_version: int | None
    cipher_suite: int | None
