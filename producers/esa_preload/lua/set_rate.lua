#!lua flags=allow-oom
-- Let an operator set the pace of operations, or have it learnt anew: all that is asked or nothing, in its order.
-- ARGV: 2 actor, from 3 on pairs of operation and calls/s, or '' to forget what was learnt.
-- Returns: {'ok'} | {'bounds', rate, least, most} for a rate that the workers' settings do not allow. A cooldown is kept with a rate.
-- Idempotent. O(pairs).
for i = 3, #ARGV, 2 do
  local op, rate = ARGV[i], tonumber(ARGV[i + 1])
  local version = tonumber(call('HGET', P .. 'rate:' .. op, 'v') or 0)
  if version > RATE_VERSION then
    return redis.error_reply('UNSUPPORTED rate ' .. op .. ' has version ' .. version .. ', this release reads ' .. RATE_VERSION)
  end
  if rate and (rate < setting('rate_min') or rate > setting('rate_max')) then
    return { 'bounds', ARGV[i + 1], text(setting('rate_min')), text(setting('rate_max')) }
  end
end
for i = 3, #ARGV, 2 do
  local op, rate = ARGV[i], tonumber(ARGV[i + 1])
  local key = P .. 'rate:' .. op
  local known = call('HMGET', key, 'v', 'next', 'cooldown', 'fixed')
  local is_known = known[1] and tonumber(known[1]) >= RATE_VERSION -- else of an older release: see gate.lua
  if not rate or not is_known then call('DEL', key) end
  if rate then
    local cooldown = tonumber(known[3] or 0)
    local next_at = math.max(cooldown, math.min(tonumber(known[2] or now), now + 1000 / rate))
    call('HSET', key, 'v', RATE_VERSION, 'rate', text(rate), 'fixed', text(rate), 'cooldown', text(cooldown), 'next', text(next_at))
    if not is_known or tonumber(known[4] or 0) ~= rate then
      note_change('limit_set', ARGV[2], { detail = string.format('%s: %.6g calls/s', op, rate) })
    end
  elseif known[2] then
    note_change('limit_reset', ARGV[2], { detail = op })
  end
end
arm(now) -- whoever waits at the old pace looks again
return { 'ok' }
