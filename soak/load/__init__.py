"""The load generator: a separate process that sends requests, misbehaves, and keeps a ledger.

Each request ends in exactly one of three ways: it was *answered* correctly; the load generator
*cut* it on purpose; or it *failed*. The ledger counts them, and notes each log record that the
process under test must write because of them. `ordinary` and `faults` define the requests, `drive`
sends them, and ``python -m load`` is the command.
"""
