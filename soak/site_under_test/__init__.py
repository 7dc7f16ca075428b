"""The process under test: Django, Flask, websockets, tasks, forks and a chat bot in one uvicorn.

Its ASGI application is `asgi.application`; ``python -m site_under_test`` serves it. The verdict
relies on two rules that hold everywhere in this package:

- Every request carries a mark from the load generator. The outermost application puts it into a
  context variable and a `Local`; every view, on any thread, finds it in both
  (`accounts.check_mark`) or fails.
- Every log record at warning level or above names the mark of the request that caused it. A record
  without a mark, or with an unexpected one, is an error.
"""
