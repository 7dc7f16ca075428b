"""The step of whoever looks (see `_scripts` for what holds of all). It changes nothing."""

from ._scripts import TRIM, Script

# KEYS: in, out, dead, then a lease, a state and the failures for each group. ARGV: the groups.
# -> lengths of in and out, undelivered events, dead letters, bytes; then for each group its
# lease's value, lag, pending, redelivered, failing
INSPECT = Script(f"""
{TRIM}
local function by_name(stream)
  local found = {{}}
  if redis.call('EXISTS', stream) == 1 then
    for _, group in ipairs(groups(stream)) do found[group['name']] = group end
  end
  return found
end
local function lag_of(stream, group)
  if group['lag'] then return group['lag'] end
  local after = '(' .. group['last-delivered-id']
  return #redis.call('XRANGE', stream, after, '+', 'COUNT', 1000)
end
local length = redis.call('XLEN', KEYS[1])
local gateway = by_name(KEYS[2])['gateway']
local undelivered = redis.call('XLEN', KEYS[2])
if gateway then undelivered = gateway['pending'] + lag_of(KEYS[2], gateway) end
local memory = (redis.call('MEMORY', 'USAGE', KEYS[1]) or 0)
  + (redis.call('MEMORY', 'USAGE', KEYS[2]) or 0)
local dead = redis.call('XLEN', KEYS[3])
local answer = {{length, redis.call('XLEN', KEYS[2]), undelivered, dead, memory}}
local found = by_name(KEYS[1])
for n, name in ipairs(ARGV) do
  local group = found[name]
  answer[#answer + 1] = redis.call('GET', KEYS[1 + 3 * n]) or ''
  answer[#answer + 1] = group and lag_of(KEYS[1], group) or length
  answer[#answer + 1] = group and group['pending'] or 0
  answer[#answer + 1] = redis.call('HGET', KEYS[2 + 3 * n], 'redelivered') or 0
  answer[#answer + 1] = redis.call('HLEN', KEYS[3 + 3 * n])
end
return answer
""")
