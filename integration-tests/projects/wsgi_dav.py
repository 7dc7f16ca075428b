"""WsgiDAV, serving the folder that the environment variable DAV_FOLDER names."""

import os

from wsgidav.wsgidav_app import WsgiDAVApp

from asgiref.wsgi import WsgiToAsgi

CONFIGURATION = {
    "provider_mapping": {"/": os.environ["DAV_FOLDER"]},
    "simple_dc": {"user_mapping": {"*": True}},
    "property_manager": True,
    "lock_storage": True,
    "logging": {"enable": False},
    "verbose": 0,
}
application = WsgiToAsgi(WsgiDAVApp(CONFIGURATION))
