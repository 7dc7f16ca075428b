"""The logger that subclasses and settings of asgiref 3.13 refer to."""

import logging

from asgiref import server


def test_the_module_has_its_logger():
    assert server.logger is logging.getLogger("asgiref.server")
