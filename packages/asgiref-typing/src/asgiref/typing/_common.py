"""Types that the scopes and events of several protocols share.

The TypedDicts in this package interpret the specification as follows:

- A key that the specification calls optional is NotRequired, in events of both directions: a reader
  uses ``event.get("more_body", False)``, a writer may leave it out. Every other key is required.
- ``type`` is a Literal, so a type checker narrows a union of events when code compares ``type``.
- An "iterable of two-item iterables" in the specification is an iterable of tuples: servers send
  tuples, and applications that use asgiref's types already write them.
- The values of keys whose contents the application defines (``state``, ``info``, the details of an
  extension) are not narrowed.
"""

from collections.abc import Iterable
from typing import Literal, NotRequired, TypeAlias, TypedDict

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Header lines in order: pairs of a lower-case name and a value, as bytes, duplicates included."""

Extensions: TypeAlias = dict[str, dict[object, object]]
"""The details of each extension that the server offers, keyed by name; usually ``{}``."""


class ASGIVersions(TypedDict):
    """The value of ``scope["asgi"]``: the versions of the specification that the server follows.

    ``version`` is the version of ASGI itself and defines the calling style. ``spec_version`` is the
    version of the scope's protocol, for example "2.5" for http. It defaults to "2.0", and to "1.0"
    for the lifespan protocol.

    >>> ASGIVersions(version="3.0", spec_version="2.5")
    {'version': '3.0', 'spec_version': '2.5'}
    """

    version: Literal["2.0"] | Literal["3.0"]
    spec_version: NotRequired[str]


class TLSExtension(TypedDict):
    """The value of ``scope["extensions"]["tls"]`` on a TLS connection (the ASGI TLS extension).

    Certificates are PEM text. ``client_cert_name`` is a distinguished name as in RFC 4514.
    ``tls_version`` and ``cipher_suite`` are numbers from the TLS registries (0x0304 is TLS 1.3).
    None, or an absent key, means that the server does not know.

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
