#!lua flags=no-writes
-- Read, at one instant, what there is to wake up for and who will. Writes nothing.
-- Returns: JSON {now, due (null when nothing is), armed (moment of the earliest wake-up that nobody has begun, or null),
-- begun (wake-ups that somebody has begun), waiters, strays (leases without a batch)}. O(leases).
local due = INF
local site = call('ZRANGE', P .. 'ring', 0, 0, 'WITHSCORES')
if #site > 0 then due = math.max(tonumber(site[2]), (gate(CREATE))) end
local strays = {}
local leases = call('ZRANGE', P .. 'leases', 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  due = math.min(due, tonumber(leases[i + 1]))
  if call('EXISTS', P .. 'batch:' .. leases[i]) == 0 then strays[#strays + 1] = leases[i] end
end

local armed, begun = cjson.null, 0
local queued = call('ZRANGE', P .. 'queue', 0, 99, 'WITHSCORES')
for i = 1, #queued, 2 do
  if call('EXISTS', 'arq:in-progress:' .. queued[i]) == 1 then
    begun = begun + 1
  elseif armed == cjson.null and call('EXISTS', 'arq:job:' .. queued[i]) == 1 then
    armed = queued[i + 1]
  end
end
return cjson.encode({
  now = text(now), due = due < INF and text(due) or cjson.null, armed = armed, begun = begun,
  waiters = call('ZCOUNT', P .. 'waiters', text(now), '+inf'), strays = strays,
})
