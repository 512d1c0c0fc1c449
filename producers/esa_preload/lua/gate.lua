-- Whether an operation of ESA may be called now, else from when on and why: reads what rate.lua writes, and changes nothing. Included
-- after prelude.lua. And whether a lane goes as a list. O(1).
--   rate:<op>  hash, a number a field: see FRESH. Moments are ms of the server's clock.
--   rate:endpoint  hash  cooldown (ms until), strikes (1 and more: in doubt), opened (ms), probe (ms it was sent)
local TARGET = 0.025           -- refused share of the calls at which cuts and growth are even
local PROBE_TIMEOUT_MS = 10000 -- the outcome of a probe is not reported (its worker died): another one
local CREDIT_MOST_MS = 250     -- of a pace that was not spent
local POLL_MS = 100            -- whoever waits for a probe's outcome looks so often
local CREATE = 'CreateScheduledPreloadJob'
local PLANS = 'CreateScheduledPreloadExecutions'

local FRESH = {
  rate = INF,     -- calls/s
  next = 0,       -- when the pace allows the next call
  cooldown = 0,   -- nobody calls before; never shortened
  probe = 0,      -- 0 no probe wanted | DUE the next call is one | when the probe was sent: the others wait for its reply
  cut = 0,        -- refusals of calls sent up to here are no news
  strikes = 0,    -- refusals that counted in this episode; 0: no episode
  began = 0,      -- the first refused call of the episode was sent
  refused = 0,    -- the last one that counted was sent
  why = 0,        -- this cooldown: 0 a guess | 1 hinted | 2 up to an expected reset | -1 a guess, since that reset did not come
  ceiling = 0,    -- the rate at the last cut; 0: no limit met yet
  since = 0,      -- accepted calls that grew the rate since the cut
  span = 1 / TARGET, -- so many of them regain the cut
  early = 0,      -- episodes in a row that came early
  passed = 0,     -- of the calls that were under way at the cut: accepted,
  failed = 0,     -- refused
  opened = 0,     -- when the window opened (idle time taken out)
  good = 0,       -- calls accepted since
  reset = 0,      -- a known reset of the window
  length = 0,     -- of the window; 0: not known
  held = 0,       -- somebody was told to wait since the last call went out
  busy = 1,       -- share of recent calls that were held back so
  brisk = 0,      -- when a limit was last met above BRISK (rate.lua)
  fixed = 0,      -- calls/s that an operator set: it begins there and never exceeds them; 0: none
}

local rates = {}
local function rate_of(op)
  local s = rates[op]
  if s then return s end
  local flat, stored = call('HGETALL', P .. 'rate:' .. op), {}
  for i = 1, #flat, 2 do stored[flat[i]] = tonumber(flat[i + 1]) end
  if #flat > 0 and (stored.v or 0) < RATE_VERSION then stored = { cooldown = stored.cooldown } end
  s = { stored = stored, is_newer = (stored.v or 0) > RATE_VERSION }
  for field, default in pairs(FRESH) do s[field] = stored[field] or default end
  if not stored.next then -- nothing was sent, or learnt, since the pace began, or was reset
    s.rate, s.next, s.opened, s.cut = setting('rate_initial'), now - CREDIT_MOST_MS, math.max(s.cooldown, now), now - 1
  end
  s.most = s.fixed > 0 and s.fixed or setting('rate_max')
  s.least = math.min(setting('rate_min'), s.most)
  s.rate = math.max(s.least, math.min(s.rate, s.most))
  rates[op] = s
  return s
end

local function unsupported_rate(op)
  local version = rate_of(op).stored.v or RATE_VERSION
  if version > RATE_VERSION then
    return redis.error_reply('UNSUPPORTED rate ' .. op .. ' has version ' .. version .. ', this release reads ' .. RATE_VERSION)
  end
end

local circuit_cache
local function circuit()
  if not circuit_cache then
    local c = call('HMGET', P .. 'rate:endpoint', 'cooldown', 'strikes', 'opened', 'probe')
    circuit_cache = {
      cooldown = tonumber(c[1] or 0), strikes = tonumber(c[2] or 0), opened = tonumber(c[3] or 0), probe = tonumber(c[4] or 0),
    }
  end
  return circuit_cache
end

local function is_under_way(probe)
  return probe > 0 and now - probe < PROBE_TIMEOUT_MS
end

-- The earliest ms at which `op` may be called, and why not now: 'cooldown', 'probe' (another call's outcome is waited for; it may
-- open the gate earlier), 'pace', 'endpoint', 'blocked' or 'unsupported'.
local function gate(op)
  local s, at, why = rate_of(op), nil, nil
  if s.is_newer then
    at, why = now + setting('lease_ms'), 'unsupported'
  elseif s.cooldown > now then
    at, why = s.cooldown, 'cooldown'
  elseif s.probe == 0 then
    at, why = s.next, 'pace'
  else
    at, why = is_under_way(s.probe) and s.probe + PROBE_TIMEOUT_MS or now, 'probe'
  end
  local c = circuit()
  local endpoint = c.cooldown
  if c.strikes > 0 and is_under_way(c.probe) then endpoint = math.max(endpoint, c.probe + PROBE_TIMEOUT_MS) end
  if endpoint > at and endpoint > now then at, why = endpoint, 'endpoint' end
  local account = tonumber(call('HGET', P .. 'meta', 'blocked_until') or 0)
  if account > at and account > now then at, why = account, 'blocked' end
  return at, why
end

-- Ms to wait at a closed gate. Another call's outcome may open it at any time: whoever waits for that looks often.
local function patience(at, why)
  local ms = math.max(1, math.ceil(at - now))
  local is_probed = why == 'probe' or (why == 'endpoint' and circuit().cooldown <= now)
  return is_probed and math.min(ms, POLL_MS) or ms
end

-- What stands between a site whose turn comes at `turn_at` and a call of Create at a gate that opens at `opens`: until when, and why
-- ('not due', or why the gate is closed). Nil: nothing.
local function hindrance(turn_at, opens, why_closed)
  if turn_at >= now + 1 and turn_at > opens then return turn_at, 'not due' end
  if opens > now then return opens, why_closed end
end

-- As many URLs as a bulk batch of the site may have, since larger ones did not get through; nil where nothing is known.
local function bulk_limit(site)
  local learnt = call('HMGET', P .. 'site:' .. site, 'bulk_limit', 'bulk_limit_until')
  return tonumber(learnt[2] or 0) > now and tonumber(learnt[1]) or nil
end

-- Whether a lane holds so much that a list in OSS carries it: `least` URLs, or 0 where there is no bucket. A site that is blocked, or short
-- of quota, is asked with few URLs.
local function is_for_bulk(site, lane, least)
  if least == 0 or is_list(lane) or window_end(lane) <= now then return false end
  if call('HLEN', P .. 'urls:' .. site .. ':' .. lane) < least or (bulk_limit(site) or INF) < least then return false end
  local state = call('HMGET', P .. 'site:' .. site, 'blocked_code', 'quota_batch')
  return not state[1] and not state[2] and not call('HGET', P .. 'meta', 'blocked_code')
end
