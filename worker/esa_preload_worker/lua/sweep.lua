#!lua flags=allow-oom
-- Repair what a crash, an outage or arq dropped; one worker at a time. ARGV: 2 worker id, 3 ms the turn lasts.
-- Returns: {'ok', requests left open for too long and sealed, wake-ups armed, site, urls expired, site, urls ...} | {'not mine'}.
-- At most 100 of each a call. Needs nothing but the ledger.
local turn_key = P .. 'sweeper'
local whose = call('GET', turn_key)
if whose and whose ~= ARGV[2] then return { 'not mine' } end
call('SET', turn_key, ARGV[2], 'PX', ARGV[3])

local expired = {}
for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now), 'LIMIT', 0, 100)) do
  local r = call('HMGET', P .. 'request:' .. owner, 'v', 'ended', 'site')
  if tonumber(r[1] or VERSION) <= VERSION then
    call('ZREM', P .. 'expiring', owner)
    if r[1] and not r[2] then add(expired, r[3], end_owner(owner, 'expired')) end
  end
end

local sealed = 0
for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'open', '-inf', text(now - setting('open_ttl_ms')), 'LIMIT', 0, 100)) do
  call('ZREM', P .. 'open', owner)
  if call('EXISTS', P .. 'request:' .. owner) == 1 then
    call('HSET', P .. 'request:' .. owner, 'sealed', call('HLEN', P .. 'chunks:' .. owner))
    account(owner, {})
    sealed = sealed + 1
  end
end

call('ZREMRANGEBYSCORE', P .. 'waiters', '-inf', now)
local armed = arm_next() and 1 or 0
local out = { 'ok', sealed, armed }
for site, urls in pairs(expired) do
  out[#out + 1] = site
  out[#out + 1] = urls
end
return out
