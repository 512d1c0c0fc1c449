#!lua flags=allow-oom
-- Pause a site, or let it go on: by hand, whatever held it. ARGV: 2 site or '' for the account, 3 'pause' or 'resume',
--   4 why (pause), or '' when nobody said: the reason of a site that is paused already is kept.
-- Returns: {'ok', 1 when something changed, 1 when the account is blocked} | {'unknown'} for a site that was never seen. Idempotent.
-- O(lanes + batches in flight): what waits for a probe of this site is due at once.
local site, what, why = ARGV[2], ARGV[3], ARGV[4]
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
  local changed = call('HDEL', P .. 'meta', 'blocked_until', 'blocked_code', 'blocked_hint')
  release_batches()
  return { 'ok', math.min(changed, 1), 0 }
end

local key = P .. 'site:' .. site
if call('EXISTS', key) == 0 then return { 'unknown' } end
local changed
if what == 'pause' then
  changed = call('HSETNX', key, 'paused', why == '' and 'by an operator' or why)
  if why ~= '' then call('HSET', key, 'paused', why) end
else
  changed = call('HDEL', key, 'paused', unpack(BLOCK))
  call('HDEL', key, 'quota_batch') -- it may have been raised
  release_batches()
end
local due = rearm_site(site, false)
if due then arm(due) end
return { 'ok', math.min(changed, 1), call('HEXISTS', P .. 'meta', 'blocked_code') }
