#!lua flags=allow-oom
-- Hand out the next job to look at, and the call that lists its plans: at a low rate that all workers share, so that the calls that
-- create jobs have room. ARGV: 2 token of this visit.
-- Returns: {'visit', now, job, site, batch, plan, urls, state, starts ms, done ms, ended ms or 0, others, looks, is_bulk 0 or 1} | {'wait', ms}.
-- While a site is short of places for jobs, its jobs go first, and as often as jobs may be created. Nobody else is given the job within
-- LEASE_MS. O(1): at most SITES sites are looked at; short ones that had their turn go to the back.
local token = ARGV[2]
local LEASE_MS, SITES, IDLE_MS = 30000, 20, 60000
local SHARE, LEAST = 0.25, 0.2 -- of the rate of Create; calls/s

local function wait_until(at)
  return { 'wait', math.max(1, math.ceil(at - now)) }
end

for _ = 1, SITES do
  local due, site, share = call('ZRANGE', P .. 'agenda', 0, 0, 'WITHSCORES'), nil, SHARE
  if #due == 0 then return { 'wait', IDLE_MS } end
  if tonumber(due[2]) > now then return wait_until(tonumber(due[2])) end
  for _, short in ipairs(call('ZRANGE', P .. 'short', 0, SITES - 1)) do
    call('ZADD', P .. 'short', 'XX', text(turn()), short)
    if tonumber(call('ZSCORE', P .. 'agenda', short) or INF) <= now then
      site, share = short, 1
      break
    end
  end
  site = site or due[1]
  local free_at = tonumber(call('HGET', P .. 'meta', 'visited') or 0) + 1000 / math.max(LEAST, share * rate_of(CREATE).rate)
  if free_at > now then return wait_until(free_at) end
  local unsupported = unsupported_rate(PLANS_LISTED)
  if unsupported then return unsupported end
  local at, why = gate(PLANS_LISTED)
  if at > now then
    hold(PLANS_LISTED, why)
    return { 'wait', patience(at, why) }
  end
  local job = call('ZRANGE', P .. 'jobs:' .. site, 0, 0)[1]
  local key = P .. 'job:' .. (job or '')
  local j = call('HMGET', key, 'v', 'batch', 'plan', 'urls', 'state', 'starts_at', 'done_at', 'ended_at', 'others', 'looks', 'bulk')
  if not job then
    set_agenda(site)
  elseif not j[1] then
    forget_job(site, job, false)
  elseif tonumber(j[1]) > VERSION then -- a later release looks after it
    set_visit(site, job, now + LEASE_MS)
  else
    spend(PLANS_LISTED)
    call('HSET', P .. 'meta', 'visited', text(now))
    call('HSET', key, 'visitor', token)
    set_visit(site, job, now + LEASE_MS)
    return { 'visit', text(now), job, site, j[2], j[3], j[4], j[5], j[6], j[7], j[8] or '0', j[9] or '0', j[10], j[11] and 1 or 0 }
  end
end
return { 'wait', 1 }
