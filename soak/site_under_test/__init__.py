"""The process under test: Django, Flask, websockets, tasks, forks and a chat bot in one uvicorn.

Its ASGI application is `asgi.application`; ``python -m site_under_test`` serves it. Two rules hold
everywhere in here, and the verdict rests on them:

- Every request carries a mark, which only the load makes up. The outermost application puts it into
  a context variable and a `Local`; every view, on whatever thread it runs, finds it in both, or
  raises `marks.MixedUp`.
- Nothing is logged at the level of a warning or above but what a mark has caused. The log tells the
  mark of each record; what has none, or one that was not to be heard of, is an error.
"""
