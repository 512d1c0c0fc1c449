#!lua flags=allow-oom
-- Repair what a crash, an outage or arq dropped; one worker at a time. ARGV: 2 worker id, 3 ms the turn lasts.
-- Returns: {'ok', requests left open for too long and sealed, wake-ups armed, site, urls expired since the last one, site, urls ...} | {'not mine'}.
-- At most 100 of each a call. Needs nothing but the ledger.
local turn_key = P .. 'sweeper'
local whose = call('GET', turn_key)
if whose and whose ~= ARGV[2] then return { 'not mine' } end
call('SET', turn_key, ARGV[2], 'PX', ARGV[3])

for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now), 'LIMIT', 0, 100)) do
  local version = call('HGET', P .. 'request:' .. owner, 'v')
  if tonumber(version or VERSION) <= VERSION then
    ended(owner)
    call('ZREM', P .. 'expiring', owner)
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
local meta = call('HGETALL', P .. 'meta')
for i = 1, #meta, 2 do
  local site = string.match(meta[i], '^expired:(%d+)$')
  if site then
    out[#out + 1] = site
    out[#out + 1] = tonumber(meta[i + 1])
    call('HDEL', P .. 'meta', meta[i])
  end
end
return out
