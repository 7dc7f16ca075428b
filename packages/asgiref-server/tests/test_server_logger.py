"""The logger that subclasses and logging settings written for asgiref 3.13 use."""

import logging

from asgiref import server


def test_the_module_has_its_logger():
    assert server.logger is logging.getLogger("asgiref.server")
