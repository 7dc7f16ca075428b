"""ASGI helpers and the bridge between synchronous and asynchronous code.

This distribution ties the components together. Each of them installs one portion of the
``asgiref`` package from a place of its own, so the package's path must reach beyond this folder:
``extend_path`` makes wheels, editable installs and mixtures of both import alike.
"""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
__version__ = "3.13.100"

# Each component looks for this, and warns of another asgiref/__init__.py, which lacks it.
_installation_checked = True
