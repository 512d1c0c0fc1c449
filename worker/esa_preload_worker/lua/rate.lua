-- The pace of each operation, shared by all workers. Included after prelude.lua.
--   rate:<op>  hash  rate (calls/s), next (ms of the next call), cooldown (ms until), cut (ms of the last cut), strikes
local CATCH_UP_MS = 250        -- credit for calls that came late: wake-ups are not exact
local CUT = 0.7
local COOLDOWN_MS = 1000       -- first cooldown without a hint; doubles with each episode that follows
local COOLDOWN_MAX_MS = 60000
local ENDPOINT_MAX_MS = 10000  -- a probe costs one connection, and everything waits for it
local CREATE = 'CreateScheduledPreloadJob'
local PLANS = 'CreateScheduledPreloadExecutions'

local function rate_of(op)
  local r = call('HMGET', P .. 'rate:' .. op, 'rate', 'next', 'cooldown', 'cut', 'strikes')
  return {
    rate = tonumber(r[1] or setting('rate_initial')), next = tonumber(r[2] or 0), cooldown = tonumber(r[3] or 0),
    cut = tonumber(r[4] or 0), strikes = tonumber(r[5] or 0),
  }
end

-- The earliest ms at which `op` may be called, and why not now.
local function gate(op)
  local r = rate_of(op)
  local at, reason = r.next, 'pace'
  if r.cooldown > at then at, reason = r.cooldown, 'cooldown' end
  local endpoint = tonumber(call('HGET', P .. 'rate:endpoint', 'cooldown') or 0)
  if endpoint > at then at, reason = endpoint, 'endpoint' end
  local account = tonumber(call('HGET', P .. 'meta', 'blocked_until') or 0)
  if account > at then at, reason = account, 'blocked' end
  return at, reason
end

-- Arm a wake-up for the next moment at which a worker has something to do: a site's turn, or a batch to look after. A loop that
-- waits for a moment looks by itself, and arms then; should it die, its entry ends and the sweep arms.
local function arm_next()
  if call('ZCOUNT', P .. 'waiters', text(now + 1), '+inf') > 0 then return false end
  local at = INF
  local site = call('ZRANGE', P .. 'ring', 0, 0, 'WITHSCORES')
  if #site > 0 then at = math.max(tonumber(site[2]), (gate(CREATE))) end
  local lease = call('ZRANGE', P .. 'leases', 0, 0, 'WITHSCORES')
  if #lease > 0 then at = math.min(at, tonumber(lease[2])) end
  return at < INF and arm(at)
end

local function spend(op)
  local r = rate_of(op)
  local from = math.max(r.next, now - CATCH_UP_MS)
  call('HSET', P .. 'rate:' .. op, 'rate', text(r.rate), 'next', text(from + 1000 / r.rate))
end

-- A call went through: a little faster from now on (one call/s more each second), and every doubt is over.
local function went_well(op)
  local r = rate_of(op)
  local rate = math.min(setting('rate_max'), r.rate + 1 / math.max(r.rate, 1))
  call('HSET', P .. 'rate:' .. op, 'rate', text(rate), 'strikes', 0)
end

-- Wait from now on, twice as long with each episode before this one.
local function cool(key, episodes, hint_ms, roll, most_ms)
  local ms = hint_ms or math.min(most_ms or COOLDOWN_MAX_MS, COOLDOWN_MS * 2 ^ math.min(episodes, 10)) * (0.5 + roll / 2)
  local until_ms = math.max(now + ms, tonumber(call('HGET', key, 'cooldown') or 0)) -- never shortened
  call('HSET', key, 'cooldown', text(until_ms))
  return until_ms
end

-- ESA throttled a call sent at `sent`: everybody waits; one cut an episode, however many calls it hit.
local function throttled(op, sent, hint_ms, roll)
  local key = P .. 'rate:' .. op
  local r = rate_of(op)
  if sent <= r.cut then return cool(key, math.max(0, r.strikes - 1), hint_ms, roll) end
  local rate = math.max(setting('rate_min'), r.rate * CUT)
  call('HSET', key, 'rate', text(rate), 'cut', text(now), 'strikes', r.strikes + 1)
  return cool(key, r.strikes, hint_ms, roll)
end

-- The endpoint could not be reached: one circuit for all workers and operations. Calls that fail while it is open say nothing new.
local function unreachable(roll)
  local key = P .. 'rate:endpoint'
  local r = rate_of('endpoint')
  if now < r.cooldown then return r.cooldown end
  call('HINCRBY', key, 'strikes', 1)
  return cool(key, r.strikes, nil, roll, ENDPOINT_MAX_MS)
end

local function reached()
  call('HDEL', P .. 'rate:endpoint', 'strikes')
end
