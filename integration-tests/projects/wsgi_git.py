"""dulwich's git server, for the bare repository that GIT_REPOSITORY names."""

import os

from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from asgiref.wsgi import WsgiToAsgi

repository = Repo(os.environ["GIT_REPOSITORY"])
application = WsgiToAsgi(make_wsgi_chain(DictBackend({"/": repository})))
