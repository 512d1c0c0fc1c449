#!lua flags=allow-oom
-- Pause a site, or let it go on: by hand, whatever held it. ARGV: 2 site or '' for the account, 3 'pause' or 'resume',
--   4 why (pause), or '' when nobody said: the reason of a site that is paused already is kept,
--   5 actor.
-- Returns: {'ok', 1 when something changed, 1 when the account is blocked} | {'unknown'} for a site that was never seen. Idempotent.
-- O(lanes + batches in flight): what waits for a probe of this site is due at once.
-- What was learnt of ESA's quota and of the site's places for jobs is forgotten: who resumes may have had them raised, or made room.
local site, what, why, actor = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local BLOCK = { 'wait_until', 'wait_reason', 'blocked_code', 'blocked_hint', 'strikes' }

local function release_batches()
  for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
    local b = call('HMGET', P .. 'batch:' .. id, 'site', 'token')
    if b[2] == '' and (site == '' or b[1] == site) then call('ZADD', P .. 'leases', text(now), id) end
  end
  arm(now)
end

if site == '' then
  if what == 'pause' then return { 'unknown' } end
  local code = call('HGET', P .. 'meta', 'blocked_code')
  local changed = call('HDEL', P .. 'meta', 'blocked_until', 'blocked_code', 'blocked_hint')
  if changed > 0 then note_change('resumed', actor, { detail = code }) end
  release_batches()
  return { 'ok', math.min(changed, 1), 0 }
end

local key = P .. 'site:' .. site
if call('EXISTS', key) == 0 then return { 'unknown' } end
local held, changed = call('HMGET', key, 'paused', 'blocked_code', 'wait_reason'), nil
if what == 'pause' then
  local reason = why ~= '' and why or held[1] or 'by an operator'
  changed = held[1] and 0 or 1
  if reason ~= held[1] then
    call('HSET', key, 'paused', reason)
    note_change('paused', actor, { site = site, detail = reason })
  end
else
  changed = call('HDEL', key, 'paused', unpack(BLOCK))
  local learnt = call('HDEL', key, 'quota_batch', 'job_cap', 'job_cap_until')
  if call('ZREM', P .. 'short', site) == 1 then
    for _, lane in ipairs(call('ZRANGE', P .. 'lanes:' .. site, 0, -1)) do rearm_lane(site, lane, false) end
  end
  if changed + learnt > 0 then
    note_change('resumed', actor, { site = site, detail = held[1] or held[2] or held[3] })
  end
  release_batches()
end
local due = rearm_site(site, false)
if due then arm(due) end
return { 'ok', math.min(changed, 1), call('HEXISTS', P .. 'meta', 'blocked_code') }
