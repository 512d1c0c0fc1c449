-- The pace of each operation, shared by all workers: finds a limit that nobody tells, and follows it. Included after prelude.lua and
-- gate.lua, which reads what is written here. `gate` and `spend` before each call; then `report` once for it, or never when its worker
-- died. O(1); nothing is remembered elsewhere.
-- The rate grows with each accepted call that the pace had held back, and is cut once an episode. An episode begins with a refused call
-- that was sent after the last cut, and ends with an accepted call that was sent after the last refusal.
-- Why so: docs/decisions/0009-a-learning-pace.md. tests/integration/rates/reference.py says the same in Python, and is held to it.
local CUT = 0.035              -- cut of an episode; the growth between two episodes regains as much
local EARLY = 0.1              -- throttled again before this part of the way back was gone: the cut was too small, twice as much now,
local CUT_MOST = 0.4           -- up to this; also the cut that ends the first ramp
local GROW_MOST = 0.25         -- calls/s an accepted call may add: 25 %/s, since the replies under way are not known yet
local FAR = 0.22               -- so far below the last ceiling the rate grows by GROW_MOST
local AFTER_CALLS, AFTER_S = 120, 12 -- beyond the ceiling for so many calls and seconds: twice the growth (3 x: four times ...)
local PAY_MOST_S = 35          -- an episode never slows the growth for longer
local SAMPLE, SHARE = 12, 0.7  -- of at least so many calls under way when the limit was hit, fewer than this were accepted: take that share
local SHARE_LEAST = 0.2
local SHORT = 3                -- a cooldown up to so many calls' spacing is followed by the pace, a longer one by a single probe
local COOLDOWN_MOST_MS = 60000
local CREDIT_LEAST_MS = 50     -- a late wake-up loses nothing: one call's spacing of credit, from this to CREDIT_MOST_MS
local BUSY = 0.75              -- share of the calls that must have waited for the pace, else it is not the bottleneck and does not grow
local WINDOW_MS, WINDOW_CALLS = 2000, 5 -- nothing accepted for so long and for so many calls' spacing: a window, not a bucket
local WINDOW_OVER = 1.1        -- after which the pace is the rate just seen and a little more: an exhausted window is fully used
local WINDOW_PAY = 4           -- and its refusals weigh no more than so many
local NEAR = 0.2               -- a reset that is expected within this part of the window's length is waited for
local MATCH = 0.2              -- resets in line up to this part of the length are the same window's
local SLUMP, BRISK = 1, 2      -- calls/s: a limit fell below the one from above the other, and may come back as it went:
local SLUMP_CALLS, SLUMP_MS = 4, 600000 -- after so many accepted calls the way up is fast, for so long
local ENDPOINT_MS, ENDPOINT_MOST_MS = 1000, 10000 -- one call finds out whether it answers again, and everything waits for it

local TRAFFIC_TTL_MS = 7200000

-- Count what all workers do, for people to look at: 'passed' and 'throttled' calls, and 'urls' submitted. One command.
local function count_traffic(field, by)
  local key = traffic_key(now)
  if call('HINCRBY', key, field, by) == by then call('PEXPIRE', key, TRAFFIC_TTL_MS) end
end

local function save(op, s)
  local stored, changed = s.stored, {}
  for field in pairs(FRESH) do
    if s[field] ~= stored[field] then
      changed[#changed + 1] = field
      changed[#changed + 1] = text(s[field])
      stored[field] = s[field]
    end
  end
  if stored.v ~= RATE_VERSION then
    stored.v = RATE_VERSION
    changed[#changed + 1] = 'v'
    changed[#changed + 1] = RATE_VERSION
  end
  if #changed > 0 then call('HSET', P .. 'rate:' .. op, unpack(changed)) end
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

-- Somebody is told to wait for the pace: it is what holds the calls back.
local function hold(op, why)
  if why ~= 'pace' and why ~= 'cooldown' and why ~= 'probe' then return end
  local s = rate_of(op)
  if s.held == 0 then
    s.held = 1
    save(op, s)
  end
end

-- The gate is open and a call goes through, now.
local function spend(op)
  local s, c = rate_of(op), circuit()
  if c.strikes > 0 then
    c.probe = now
    call('HSET', P .. 'rate:endpoint', 'probe', text(now))
  end
  local spacing = 1000 / s.rate
  if s.probe ~= 0 then
    s.probe, s.next = now, now + spacing
  else
    local credit = math.min(CREDIT_MOST_MS, math.max(CREDIT_LEAST_MS, spacing))
    if s.held == 0 then s.opened = s.opened + math.max(0, now - s.next - credit) end -- nobody wanted to call
    s.busy = s.busy + (s.held - s.busy) / 16
    s.held = 0
    s.next = math.max(s.next, now - credit) + spacing
  end
  save(op, s)
end

local function grow(s)
  s.since = s.since + 1
  local rate = s.rate
  if s.ceiling == 0 or rate < s.ceiling * (1 - FAR) then
    rate = rate + GROW_MOST
  elseif s.ceiling < SLUMP and now - s.brisk < SLUMP_MS and s.since > SLUMP_CALLS then
    rate = rate + math.min(rate / 4, GROW_MOST)
    s.opened, s.good, s.reset, s.length = now, 0, 0, 0 -- a trickle looks like windows
  else
    local times = 1 + math.max(0, s.since - s.span) / math.max(AFTER_CALLS, AFTER_S * rate)
    rate = rate + math.min(rate * CUT / s.span * times * times, GROW_MOST)
  end
  s.rate = math.min(rate, s.most)
end

local function learn_length(s, opened, is_window)
  local passed = opened - s.reset
  local times = s.length > 0 and math.floor(passed / s.length + 0.5) or 0
  if times >= 1 and math.abs(passed - times * s.length) < MATCH * s.length then
    if s.why ~= 2 or s.strikes > 1 then -- a guess that came true says nothing new
      s.length = s.length + (passed / times - s.length) / 2
      s.reset = opened
    end
  elseif is_window then
    if s.reset > 0 then s.length = passed end
    s.reset = opened
  end
end

local function recovered(s, sent, probed)
  -- When did it open again? A hint says, or half-way between the last refusal and this call.
  local opened = s.why > 0 and math.min(sent, s.cooldown) or (s.refused + sent) / 2
  local shut = s.why > 0 and s.cooldown - s.cut or s.refused - s.began
  local is_window = shut > math.max(WINDOW_MS, WINDOW_CALLS * 1000 / s.rate) and (s.why > 0 or s.strikes > 2)
  local says_rate = s.reset > 0 or s.good > SAMPLE -- else it was joined midway, when others had spent nearly all of it
  if s.strikes > 1 or s.why > 0 then learn_length(s, opened, is_window) end
  if is_window then
    if says_rate then
      local seen = s.good * 1000 / math.max(opened - s.opened, 1)
      s.rate = math.max(s.least, math.min(s.rate, seen * WINDOW_OVER))
      s.ceiling = s.rate
    end
    s.opened, s.good = opened, 1
    s.span = math.min(s.span, WINDOW_PAY / TARGET)
  else
    local known = s.passed + s.failed
    if known >= SAMPLE and s.passed < SHARE * known then
      s.rate = math.max(s.least, math.min(s.rate, s.ceiling * math.max(SHARE_LEAST, s.passed / known)))
      s.ceiling = s.rate / (1 - CUT)
      s.cut = now -- what was sent at the old rate is no news
      s.early = 0
    end
    if probed then -- the calls that the cooldown kept from being made count as refused
      s.span = s.span + math.min(now - s.began, 2000) / 1000 * s.rate / TARGET
    end
    s.span = math.min(s.span, math.max(2 / TARGET, PAY_MOST_S * s.rate))
  end
  if probed then s.next = now + 1000 / s.rate end
  s.probe, s.strikes = 0, 0
end

local function went_well(s, sent)
  s.good = s.good + 1
  if sent <= s.cut then
    if s.strikes > 0 then s.passed = s.passed + 1 end
    return
  end
  local probed = s.probe ~= 0
  if s.probe > 0 and sent >= s.probe then
    s.probe = 0
    s.next = math.max(s.next, now + 1000 / s.rate)
  end
  if s.strikes > 0 then
    recovered(s, sent, probed)
  elseif s.busy >= BUSY then
    grow(s)
  end
end

-- Ms until the next reset of a window whose length is known.
local function to_reset(s)
  if s.length <= 0 then return INF end
  return s.reset - math.floor((s.reset - now) / s.length) * s.length - now
end

-- `hint`: ms that ESA asked for; 0: it did not say.
local function throttled(s, sent, hint)
  local is_late = sent <= s.cut
  if is_late or s.strikes > 0 then
    s.span = math.min(s.span + 1 / TARGET, math.max(2 / TARGET, PAY_MOST_S * s.rate))
  end
  if is_late then
    if s.strikes > 0 then s.failed = s.failed + 1 end
    if hint > 0 then
      s.cooldown = math.max(s.cooldown, now + hint)
      s.next = math.max(s.next, s.cooldown)
      if hint > SHORT * 1000 / s.rate then s.probe = DUE end
    end
    return
  end
  if s.probe > 0 and sent >= s.probe then s.probe = 0 end
  local is_first = s.ceiling == 0
  s.strikes = s.strikes + 1
  if s.strikes == 1 then
    if is_first then
      s.early = 9
    else
      s.early = s.since < s.span * EARLY and math.min(s.early + 1, 9) or 0
    end
    if (s.early == 0 or is_first and s.good > AFTER_CALLS) and s.rate > BRISK then s.brisk = sent end
    s.ceiling = s.rate
    s.rate = math.max(s.least, s.rate * (1 - math.min(CUT_MOST, CUT * 2 ^ s.early)))
    s.began, s.since, s.span, s.passed, s.failed, s.why = sent, 0, 1 / TARGET, 0, 1, 0
  end
  s.cut, s.refused = now, sent
  local spacing = 1000 / s.rate
  local is_again, wait = s.why == 2 or s.why == -1, nil
  if hint > 0 then
    wait, s.why = hint, 1
  elseif is_again then -- it did not come yet
    wait, s.why = math.min(COOLDOWN_MOST_MS, spacing * 2 ^ math.min(s.strikes - 2, 20)), -1
  else
    wait, s.why = math.min(COOLDOWN_MOST_MS, spacing * 2 ^ math.min(s.strikes - 1, 20)), 0
    local expected = to_reset(s)
    if expected < NEAR * s.length then wait, s.why = math.max(wait, expected), 2 end
  end
  s.cooldown = math.max(s.cooldown, now + wait)
  s.next = math.max(s.next, s.cooldown)
  if s.strikes > 1 or wait > SHORT * spacing or is_first then s.probe = DUE end
end

-- The endpoint answered: every doubt is over.
local function reached()
  local c = circuit()
  if c.strikes == 0 then return end
  c.strikes, c.probe = 0, 0
  call('HDEL', P .. 'rate:endpoint', 'strikes', 'probe')
end

-- The endpoint could not be reached: one circuit for all workers and operations. Calls that were sent before it opened say nothing new.
local function unreachable(sent)
  local c = circuit()
  if now < c.cooldown or sent < c.opened then return end
  c.cooldown = now + math.min(ENDPOINT_MOST_MS, ENDPOINT_MS * 2 ^ math.min(c.strikes, 10))
  c.strikes, c.opened, c.probe = c.strikes + 1, now, 0
  call('HSET', P .. 'rate:endpoint', 'cooldown', text(c.cooldown), 'strikes', c.strikes, 'opened', text(now), 'probe', 0)
end

-- What became of a call that was spent at `sent`: 'ok' (ESA dealt with it) | 'throttled' | 'answered' (otherwise: nothing about the
-- rate) | 'not_sent' (the endpoint could not be reached) | 'unknown' (no answer, or the call was not made after all).
-- Returns until when to wait for it, or 0. Whoever reports arms the next wake-up: a probe's outcome opens the gate.
local function report(op, sent, outcome, hint)
  if outcome ~= 'not_sent' then count_traffic(outcome == 'throttled' and 'throttled' or 'passed', 1) end
  local s = rate_of(op)
  if not s.is_newer then
    if outcome == 'ok' then
      went_well(s, sent)
    elseif outcome == 'throttled' then
      throttled(s, sent, hint)
    elseif s.probe > 0 and sent >= s.probe then
      s.probe = DUE
    end
    save(op, s)
  end
  local c = circuit()
  if outcome == 'not_sent' then
    unreachable(sent)
    return c.cooldown
  elseif outcome ~= 'unknown' then
    reached()
  elseif c.probe > 0 and sent >= c.probe then
    c.probe = 0
    call('HDEL', P .. 'rate:endpoint', 'probe')
  end
  return outcome == 'throttled' and s.cooldown or 0
end

-- Report the calls in ARGV from `first` on, four arguments each: operation, sent, outcome, hint in ms. Returns how many there were.
local function report_calls(first)
  for i = first, #ARGV, 4 do report(ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3])) end
  return (#ARGV - first + 1) / 4
end
