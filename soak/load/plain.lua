-- Makes wrk request three views in turn and check each answer.
local paths = { "/flask/hello", "/django/sync", "/django/async" }
local place = 0
wrong = 0

local threads = {}
function setup(thread)
   table.insert(threads, thread)
end

function request()
   place = place % #paths + 1
   return wrk.format("GET", paths[place])
end

function response(status, headers, body)
   if status == 200 and body ~= "Hello " then wrong = wrong + 1 end
end

function done(summary, latency, requests)
   local bodies = 0
   for _, thread in ipairs(threads) do bodies = bodies + thread:get("wrong") end
   local errors = summary.errors
   io.write(string.format(
      'soak:{"requests": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d, "body": %d}\n',
      summary.requests, errors.connect, errors.read, errors.write, errors.timeout, errors.status, bodies))
end
