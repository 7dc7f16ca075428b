"""ASGI helpers and the bridge between synchronous and asynchronous code.

This distribution ties the components together. Each component installs one portion of the
``asgiref`` package, possibly in another folder, so the package's path must include all of them.
``extend_path`` makes wheels, editable installs and mixtures of both work.
"""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
__version__ = "3.13.100"

# Each component checks for this name, and warns about any asgiref/__init__.py that lacks it.
_installation_checked = True
