"""The distribution that ours replace."""

VERSION = "3.13.0"
SDIST = f"asgiref-{VERSION}.tar.gz"
SDIST_SHA256 = "034cc8cbf72d00553b4be256703ac545120b4e50af13b49dec99da899aeeecb4"
