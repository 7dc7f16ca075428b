"""The steps of workers (see `_scripts` for what holds of all): leases, entries, attempts."""

from ._packing import LUA as _PACKING
from ._scripts import FENCED, FULL, GROUP, READ, TRIM, Script

__all__ = [
    "ACQUIRE",
    "BEGIN",
    "FAIL",
    "FENCED",
    "FULL",
    "HOLDER",
    "JOIN",
    "QUIT",
    "RELEASE",
    "RENEW",
    "STEP",
]

# KEYS: members, groups. ARGV: name, milliseconds, group, whether to tell the others.
# -> the names of all members
JOIN = Script("""
redis.call('PERSIST', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new = redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if new == 1 then
  redis.call('SADD', KEYS[2], ARGV[3])
  redis.call('PUBLISH', KEYS[1], ARGV[1])
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

# KEYS: members. ARGV: name. -> 1
QUIT = Script("""
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
""")

# KEYS: lease. -> the lease's value
HOLDER = Script("return redis.call('GET', KEYS[1])")

# Attempts that have begun and not ended (`_attempts`) do not count: their worker lives.
_TAKE_BACK = """
local function take_back(failures)
  local all = redis.call('HGETALL', failures)
  for i = 1, #all, 2 do
    local count, deaths = string.match(all[i + 1], '^(%d+) (%d+) .')
    if count == '1' then
      redis.call('HDEL', failures, all[i])
    elseif count then
      redis.call('HSET', failures, all[i], (count - 1) .. ' ' .. (deaths - 1) .. ' ')
    end
  end
end
"""

# The holder before this one has left no entry that an application began with (clean), or has given
# the partition back with some (left), or has died: then everything that was ever delivered and is
# pending is in doubt. It has not died if it is this worker, and knows why it lost the partition.
# KEYS: lease, state, in, failures, gate. ARGV: name, milliseconds, group, whether this worker lost
# it because Redis was away.
# -> {lease's value, doubt, died, pending, failures}, or FENCED
ACQUIRE = Script(f"""
{TRIM}{GROUP}{_TAKE_BACK}
local holder = redis.call('GET', KEYS[1])
if holder and string.match(holder, ':(.*)') ~= ARGV[1] then return -1 end
redis.call('PERSIST', KEYS[2])
make_group(KEYS[3], ARGV[3])
local group = state_of(KEYS[3], ARGV[3])
local state = redis.call('HMGET', KEYS[2], 'doubt', 'died', 'end', 'holder')
local doubt, died = state[1] or '0-0', state[2] or '0-0'
if state[3] ~= 'clean' then
  doubt = group['last-delivered-id']
  redis.call('HINCRBY', KEYS[2], 'redelivered', group['pending'])
end
if state[3] == '' then
  if ARGV[4] == '1' and state[4] == ARGV[1] then
    take_back(KEYS[4])
  elseif not holder then
    died = doubt
  end
end
local token = redis.call('HINCRBY', KEYS[5], 'leases', 1)
redis.call('HSET', KEYS[2],
  'doubt', doubt, 'died', died, 'end', '', 'holder', ARGV[1], 'sent', 0)
local lease = token .. ':' .. ARGV[1]
redis.call('SET', KEYS[1], lease, 'PX', ARGV[2])
return {{lease, doubt, died, group['pending'], redis.call('HGETALL', KEYS[4])}}
""")

# KEYS: lease, in. ARGV: lease's value, milliseconds, group. -> {pending, lag}, or FENCED
RENEW = Script(f"""
{TRIM}{GROUP}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local all = groups(KEYS[2])
trim(KEYS[2], all)
for _, group in ipairs(all) do
  if group['name'] == ARGV[3] then
    local lag = group['lag']
    if not lag then
      local after = '(' .. group['last-delivered-id']
      lag = #redis.call('XRANGE', KEYS[2], after, '+', 'COUNT', 1000)
    end
    return {{group['pending'], lag}}
  end
end
return -1
""")

# The events that an application has sent, before the acknowledgement of what it sent them for, so
# whoever sees the one sees the other; then what is new.
# KEYS: lease, state, in, out, failures. ARGV: lease's value, group, channel, number of the
# partition, limit of the outgoing stream, number of the first event, how many events, how many
# ids, how many to read, the last that arrived; packed: an id of its own, a scope's id, a scope, a
# message and '1' or '' (redelivered) for each event, then the ids.
# -> {entries, whether they are lost ones}, or FENCED, or FULL
STEP = Script(f"""
{_PACKING}{READ}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local events, ids = tonumber(ARGV[7]), tonumber(ARGV[8])
local strings, at = unpacked(ARGV[11]), 1
if events > 0 then
  if redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[5]) then return -2 end
  local sent = tonumber(redis.call('HGET', KEYS[2], 'sent'))
  local number, token = tonumber(ARGV[6]), string.match(ARGV[1], '%d+')
  for _ = 1, events do
    if number > sent then
      redis.call('XADD', KEYS[4], '*', 'd', strings[at], 'i', strings[at + 1],
        's', strings[at + 2], 'm', strings[at + 3], 'r', strings[at + 4],
        'n', token .. '-' .. number)
    end
    number, at = number + 1, at + 5
  end
  if number - 1 > sent then
    redis.call('HSET', KEYS[2], 'sent', number - 1)
    redis.call('PUBLISH', ARGV[3], ARGV[4])
  end
end
if ids > 0 then
  redis.call('XACK', KEYS[3], ARGV[2], unpack(strings, at, at + ids - 1))
  if redis.call('EXISTS', KEYS[5]) == 1 then
    redis.call('HDEL', KEYS[5], unpack(strings, at, at + ids - 1))
  end
end
if ARGV[9] == '0' then return {{'', 0}} end
return read(KEYS[3], ARGV[2], ARGV[9], ARGV[10])
""")

# Attempts begin (`_attempts`). KEYS: lease, failures. ARGV: lease's value, then ids and records in
# turn. -> 1, or FENCED
BEGIN = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PERSIST', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
""")

# One more failure of an application; the caller counts them, so that a repeated call does not.
# KEYS: lease, state, in, failures, dead. ARGV: lease's value, group, id, attempts, their record or
# '' for a dead letter, limit of the dead letters, reason, trace.
# -> attempts, or 0 for a dead letter, or FENCED
FAIL = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if #redis.call('XPENDING', KEYS[3], ARGV[2], ARGV[3], ARGV[3], 1) == 0 then return 0 end
redis.call('PERSIST', KEYS[2])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[3], ARGV[5])
  return tonumber(ARGV[4])
end
local found = redis.call('XRANGE', KEYS[3], ARGV[3], ARGV[3])
local letter = {'group', ARGV[2], 'id', ARGV[3], 'attempts', ARGV[4], 'holder', ARGV[1],
  'reason', ARGV[7], 'traceback', ARGV[8]}
for _, each in ipairs(found[1] and found[1][2] or {}) do letter[#letter + 1] = each end
redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[6], '*', unpack(letter))
redis.call('XACK', KEYS[3], ARGV[2], ARGV[3])
redis.call('HDEL', KEYS[4], ARGV[3])
return 0
""")

# KEYS: lease, state, failures. ARGV: lease's value, 'clean' or 'left'. -> 1, or FENCED
RELEASE = Script(f"""
{_TAKE_BACK}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PERSIST', KEYS[2])
redis.call('HSET', KEYS[2], 'end', ARGV[2])
take_back(KEYS[3])
redis.call('DEL', KEYS[1])
return 1
""")
