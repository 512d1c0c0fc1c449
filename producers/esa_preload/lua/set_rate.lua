#!lua flags=allow-oom
-- Let an operator set the pace of an operation, or have it learnt anew. ARGV: 2 operation, 3 calls/s, or '' to forget what was learnt.
-- Returns: {'ok'} | {'bounds', least, most} for a rate that the workers' settings do not allow. A cooldown is kept with a rate.
-- Idempotent. O(1).
local op, rate = ARGV[2], tonumber(ARGV[3])
local key = P .. 'rate:' .. op
local known = call('HMGET', key, 'v', 'next', 'cooldown')
local version = tonumber(known[1] or 0)
if version > RATE_VERSION then
  return redis.error_reply('UNSUPPORTED rate ' .. op .. ' has version ' .. version .. ', this release reads ' .. RATE_VERSION)
end
if not rate then
  call('DEL', key)
else
  if rate < setting('rate_min') or rate > setting('rate_max') then
    return { 'bounds', text(setting('rate_min')), text(setting('rate_max')) }
  end
  if version < RATE_VERSION then call('DEL', key) end -- of an older release: see gate.lua
  local cooldown = tonumber(known[3] or 0)
  local next_at = math.max(cooldown, math.min(tonumber(known[2] or now), now + 1000 / rate))
  call('HSET', key, 'v', RATE_VERSION, 'rate', text(rate), 'fixed', text(rate), 'cooldown', text(cooldown), 'next', text(next_at))
end
arm(now) -- whoever waits at the old pace looks again
return { 'ok' }
