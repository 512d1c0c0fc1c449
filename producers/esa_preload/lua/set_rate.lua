#!lua flags=allow-oom
-- Let an operator set the pace of operations, or have it learnt anew: all that is asked or nothing, in its order. A rate that is set is where
-- the pace begins, and what it never exceeds; below it, it is learnt. What was learnt before is forgotten, but for a cooldown: ESA asked for it.
-- ARGV: 2 actor, from 3 on pairs of operation and calls/s, or '' to have them learnt.
-- Returns: {'ok'} | {'bounds', rate, least, most} for a rate that the workers' settings do not allow.
-- Idempotent: a rate that is set already changes nothing. O(pairs).

-- `rate`: calls/s, or nil.
local function begin_anew(op, rate)
  local key = P .. 'rate:' .. op
  local known = call('HMGET', key, 'v', 'next', 'cooldown', 'fixed')
  if rate and tonumber(known[1] or 0) == RATE_VERSION and tonumber(known[4] or 0) == rate then return end
  local cooldown = tonumber(known[3] or 0)
  call('DEL', key)
  if rate or cooldown > now then
    call('HSET', key, 'v', RATE_VERSION, 'rate', text(rate or setting('rate_initial')), 'cooldown', text(cooldown),
      'probe', cooldown > now and DUE or 0)
  end
  if rate then
    local next_at = math.max(cooldown, math.min(tonumber(known[2] or now), now + 1000 / rate))
    -- What was sent at the old pace is no news of the new one.
    call('HSET', key, 'fixed', text(rate), 'next', text(next_at), 'opened', text(math.max(cooldown, now)), 'cut', text(now - 1))
    note_change('limit_set', ARGV[2], { detail = string.format('%s: %.6g calls/s', op, rate) })
  elseif known[2] then
    note_change('limit_reset', ARGV[2], { detail = op })
  end
end

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
for i = 3, #ARGV, 2 do begin_anew(ARGV[i], tonumber(ARGV[i + 1])) end
arm(now) -- whoever waits at the old pace looks again
return { 'ok' }
