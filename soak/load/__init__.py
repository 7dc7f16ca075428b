"""The load: a process of its own that asks, misbehaves, and keeps book.

Everything that is sent ends in exactly one of three ways: it was *answered*, and the answer is the
one that it should be; it was *cut* by us, on purpose; or it *failed*. The ledger counts them, and
notes each log record that the process under test must write on our account. `ordinary` and `faults`
hold what is sent, `drive` sends it, ``python -m load`` is the command.
"""
