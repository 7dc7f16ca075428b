"""The steps that must be made whole or not at all, as Lua scripts that Redis runs.

Each begins by looking whether the caller still holds what it writes to: a process that was stopped
for longer than its lease, and wakes up, gets `FENCED` and has changed nothing. The look and the
writes are one step of Redis: no moment lies between them, as it would with a check by the client.

Each may be sent again when it is not known whether it was made (the connection broke before the
answer): acknowledging twice is acknowledging; what is appended is numbered by the sender, and
numbers that were seen are skipped; what is read stays pending, and each read names the last entry
that arrived, and begins with what got lost on the way.

Redis may make one late: a call that was given up as unanswered can still lie in a socket there,
and is made when the same call, sent again, has been answered. What it reads is pending, so the next
read finds it, before anything newer. And a Redis that was killed in the middle of writing its file
undoes the last script when it starts, but has part of it back at its second start, before what was
sent again meanwhile (Redis 7, Valkey until 2026: they cut the file behind the MULTI, not before
it). So a message's entry has an id that is the same when it is sent again, the gateway's token and
the message's number, and a stream takes no id twice. Events of several groups share a stream, in
which ids only grow: they have the id that Redis gives them, bear their token and number in a field,
and the gateway marks what it has seen (`_outlet`).

When Redis has no memory left, it refuses a script's first write, if that one takes memory, and no
other one. So what applications and gateways add is refused before anything has changed. What must
go on, because it ends in memory being freed (leases, members, failures), begins with a write that
takes none and does nothing: PERSIST of a key that never expires.

No script is larger than it must be: while one runs, Redis does nothing else. The longest are those
with a hundred entries, which take some 0.2 ms.

Here are what they share, and those of gateways; `_worker_scripts` has those of workers, and
`_status_scripts` the one that looks.
"""

import hashlib
from dataclasses import dataclass, field

from ._packing import LUA as _PACKING

#: Answers in place of a result: the caller holds the lease no more; the stream is full.
FENCED = -1
FULL = -2

#: The one consumer of a group. Which process it is, is decided by the lease: so whoever takes over
#: finds what is pending without claiming it.
CONSUMER = "holder"
#: The group in which the gateway reads.
GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name that Redis knows it by once it has run there."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False)
        object.__setattr__(self, "sha", digest.hexdigest())


# Deletes what every group of a stream has acknowledged. One entry more than need be stays.
TRIM = """
local function groups(stream)
  local all = {}
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    all[#all + 1] = group
  end
  return all
end

local function numbers(id)
  local ms, sequence = string.match(id, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(sequence)
end

local function trim(stream, all)
  local least, least_ms, least_sequence
  for _, group in ipairs(all) do
    local id = group['last-delivered-id']
    if group['pending'] > 0 then id = redis.call('XPENDING', stream, group['name'])[2] end
    local ms, sequence = numbers(id)
    if not least or ms < least_ms or (ms == least_ms and sequence < least_sequence) then
      least, least_ms, least_sequence = id, ms, sequence
    end
  end
  if least and least ~= '0-0' then redis.call('XTRIM', stream, 'MINID', '=', least) end
end
"""

READ = """
local function read(stream, group, count, after)
  local found = redis.call(
    'XREADGROUP', 'GROUP', group, 'holder', 'COUNT', count, 'STREAMS', stream, after)
  if #found[1][2] > 0 then return {packed_entries(found[1][2]), 1} end
  found = redis.call(
    'XREADGROUP', 'GROUP', group, 'holder', 'COUNT', count, 'STREAMS', stream, '>')
  return {found and packed_entries(found[1][2]) or '', 0}
end
"""

GROUP = """
local function make_group(stream, group)
  local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP') then error(made.err) end
end

local function state_of(stream, name)
  for _, group in ipairs(groups(stream)) do
    if group['name'] == name then return group end
  end
end
"""

# --- The gateway -----------------------------------------------------------------------------

# KEYS: gateway, settings. ARGV: name, milliseconds, partitions.
# -> {token, partitions}, or {FENCED, milliseconds left, holder}
ENTER = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {-1, redis.call('PTTL', KEYS[1]), holder} end
redis.call('PERSIST', KEYS[2])
redis.call('HSETNX', KEYS[2], 'partitions', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local token = redis.call('HINCRBY', KEYS[2], 'token', 1)
return {token, tonumber(redis.call('HGET', KEYS[2], 'partitions'))}
""")

# A lease that ran out is taken back: what protects the partitions is their gates. And what a
# failover, or FLUSHALL, has lost of the settings is set again: the next token must be higher.
# KEYS: gateway, settings. ARGV: name, milliseconds, partitions, token. -> 1 or FENCED
KEEP = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return -1 end
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if tonumber(redis.call('HGET', KEYS[2], 'token') or '0') < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[2], 'partitions', ARGV[3], 'token', ARGV[4])
end
return 1
""")

# KEYS: gateway. ARGV: name. -> 1 or FENCED
LEAVE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('DEL', KEYS[1])
return 1
""")

# Shuts out the gateways before this one. Numbers begin anew, unless it is made twice.
# KEYS: gate, out. ARGV: token, name. -> the last event that was ever delivered, or FENCED
OPEN = Script(f"""
{TRIM}{GROUP}
local gate = redis.call('HMGET', KEYS[1], 'token', 'owner')
local token = tonumber(gate[1] or '0')
if tonumber(ARGV[1]) < token or (tonumber(ARGV[1]) == token and gate[2] ~= ARGV[2]) then
  return -1
end
redis.call('PERSIST', KEYS[1])
if gate[1] ~= ARGV[1] or gate[2] ~= ARGV[2] then
  redis.call('HSET', KEYS[1], 'token', ARGV[1], 'owner', ARGV[2], 'sequence', 0)
end
make_group(KEYS[2], 'gateway')
return state_of(KEYS[2], 'gateway')['last-delivered-id']
""")

# An id that is too small (somebody else has written into the stream) is replaced by one of Redis's.
# KEYS: in, gate. ARGV: token, name, number of the first, limit of the stream; packed: an id, a
# scope and a message for each entry.
# -> the number of the last that is in the stream by now, or FENCED
APPEND = Script(f"""
{_PACKING}
local gate = redis.call('HMGET', KEYS[2], 'token', 'owner', 'sequence')
if gate[1] ~= ARGV[1] or gate[2] ~= ARGV[2] then return -1 end
local before, number = tonumber(gate[3]), tonumber(ARGV[3])
local last, room = before, tonumber(ARGV[4]) - redis.call('XLEN', KEYS[1])
local strings = unpacked(ARGV[5])
local function entry(id, i)
  return 'XADD', KEYS[1], id, 'i', strings[i], 's', strings[i + 1], 'm', strings[i + 2]
end
for i = 1, #strings, 3 do
  if number > last then
    if room <= 0 then break end
    local made = redis.pcall(entry(ARGV[1] .. '-' .. number, i))
    if type(made) == 'table' then redis.call(entry('*', i)) end
    room, last = room - 1, number
  end
  number = number + 1
end
if last > before then
  redis.call('HSET', KEYS[2], 'sequence', last)
  redis.call('PUBLISH', KEYS[1], '')
end
return last
""")

# KEYS: gate, out. ARGV: token, name, how many to read, the last that arrived, then the ids to
# acknowledge.
# -> {entries, whether they are lost ones}, or FENCED
TAKE = Script(f"""
{_PACKING}{READ}
local gate = redis.call('HMGET', KEYS[1], 'token', 'owner')
if gate[1] ~= ARGV[1] or gate[2] ~= ARGV[2] then return -1 end
if #ARGV > 4 then redis.call('XACK', KEYS[2], 'gateway', unpack(ARGV, 5)) end
if ARGV[3] == '0' then return {{'', 0}} end
return read(KEYS[2], 'gateway', ARGV[3], ARGV[4])
""")

# KEYS: gate, out. ARGV: token, name. -> how many wait in the stream, or FENCED
TIDY = Script(f"""
{TRIM}
local gate = redis.call('HMGET', KEYS[1], 'token', 'owner')
if gate[1] ~= ARGV[1] or gate[2] ~= ARGV[2] then return -1 end
trim(KEYS[2], groups(KEYS[2]))
return redis.call('XLEN', KEYS[2])
""")

# KEYS: gate, out, dead. ARGV: token, name, id, attempts, limit of the dead letters, reason, trace.
# -> 0, or FENCED
BURY = Script("""
local gate = redis.call('HMGET', KEYS[1], 'token', 'owner')
if gate[1] ~= ARGV[1] or gate[2] ~= ARGV[2] then return -1 end
if #redis.call('XPENDING', KEYS[2], 'gateway', ARGV[3], ARGV[3], 1) == 0 then return 0 end
redis.call('PERSIST', KEYS[1])
local found = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])
local letter = {'group', 'gateway', 'id', ARGV[3], 'attempts', ARGV[4], 'holder', ARGV[2],
  'reason', ARGV[6], 'traceback', ARGV[7]}
for _, each in ipairs(found[1] and found[1][2] or {}) do letter[#letter + 1] = each end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', unpack(letter))
redis.call('XACK', KEYS[2], 'gateway', ARGV[3])
return 0
""")
