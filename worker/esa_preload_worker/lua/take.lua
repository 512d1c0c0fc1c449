#!lua flags=allow-oom
-- Hand out the next thing to do: a batch whose lease ran out, or a new batch of the next due lane, or how long to wait.
-- ARGV: 2 token of this claim, 3 id of the pump that asks, 4 id for a new batch, 5 URLs that a lane must hold for a bulk batch, or 0 where
--       there is no bucket to put one into, 6 of how many requests at most the trace contexts are told.
-- Returns: {'batch', now, id, state, site, lane, attempt, first sent ms, sent ms, oldest ms, root or '', job or '', is_bulk 0 or 1, lines of
--           its list, exceptions among those that have ended, URLs that a bulk batch of the site may have or '', trace contexts a line each,
--           url...}
--        | {'wait', ms, 1 to stay and ask again or 0 to leave, reason} | {'idle'}.
-- States: 'sent' (call Create now), 'uncertain' (look the name up), 'created' (a plan is missing); of a bulk batch also 'gathering' (gather.lua;
-- new ones come without URLs, and without the token of a call) and 'returning' (its packs go back to their lane).
-- Whoever is told to leave is woken by the queue. O(batch); URLs that nobody wants any more are dropped on the way, a bounded
-- number a call.
local token, pump, new_id, bulk_least, traces_most = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local STAY_MS = 250      -- nothing sleeps in an arq slot for longer
local WAITERS = 2        -- enough to take the next token at once, few enough not to crowd Redis
local PROBE_STAY_MS = 2000 -- so long a probe's outcome is waited for here: it opens the gate at any time
local LEASE = setting('lease_ms')

call('ZREMRANGEBYSCORE', P .. 'waiters', '-inf', now)
call('ZREM', P .. 'waiters', pump)

local too_new -- what a later release wrote: left in place, and named when nothing else is to be done

local function waiting(at, reason)
  local ms = math.max(1, math.ceil(at - now))
  hold(CREATE, reason)
  if reason == 'unsupported' then too_new = unsupported_rate(CREATE) end
  if reason == 'probe' and now - rate_of(CREATE).probe < PROBE_STAY_MS then ms = POLL_MS end
  if ms > STAY_MS or too_new then
    arm_next()
    return too_new or { 'wait', ms, 0, reason }
  end
  if call('ZCARD', P .. 'waiters') >= WAITERS then return { 'wait', ms, 0, reason } end
  call('ZADD', P .. 'waiters', text(now + ms + 1000), pump)
  return { 'wait', ms, 1, reason }
end

-- The trace contexts of those who wait for a batch.
local function traces_of(owners)
  local traces, looked = {}, 0
  for owner in string.gmatch(owners, '(%d+):') do
    if looked >= traces_most then break end
    looked = looked + 1
    traces[#traces + 1] = call('HGET', P .. 'request:' .. owner, 'trace') or nil
  end
  return table.concat(traces, '\n')
end

local function reply(id, urls)
  local b = call('HMGET', P .. 'batch:' .. id, 'state', 'site', 'lane', 'attempt', 'first_sent_at', 'sent_at',
    'oldest_at', 'root', 'job', 'bytes', 'lines', 'exempted', 'owners')
  local out = { 'batch', text(now), id, b[1], b[2], b[3], b[4], b[5] or '0', b[6] or '0', b[7], b[8] or '', b[9] or '', b[10] and 1 or 0,
    b[11] or '0', b[12] or '0', b[10] and bulk_limit(b[2]) or '', traces_of(b[13]) }
  for i = 1, #urls do out[#out + 1] = urls[i] end
  return out
end

local mine = call('HMGET', P .. 'batch:' .. new_id, 'token', 'members')
if mine[1] == token then return reply(new_id, urls_of(mine[2])) end -- the reply was lost and the call repeated

-- 1. What somebody began and did not end.
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', text(now), 'LIMIT', 0, 20)) do
  local key = P .. 'batch:' .. id
  local b = call('HMGET', key, 'v', 'state', 'members')
  local unreadable = readable(b[1], 'batch ' .. id)
  if not b[2] then
    call('ZREM', P .. 'leases', id)
  elseif unreadable then
    too_new = unreadable
    call('ZADD', P .. 'leases', text(now + LEASE), id)
  else
    call('HINCRBY', key, 'attempt', 1)
    call('HSET', key, 'token', token, 'state', b[2] == 'sent' and 'uncertain' or b[2])
    call('ZADD', P .. 'leases', text(now + LEASE), id)
    arm_next()
    return reply(id, urls_of(b[3]))
  end
end

-- 2. A batch of the next site, when Create may be called.
-- While its site or the account is blocked, a batch only finds out whether it still is. Few URLs, since a refusal of the
-- whole is taken apart down to single URLs: 2n - 1 calls.
local PROBE_URLS = 10
local function most_urls(site)
  local state = call('HMGET', P .. 'site:' .. site, 'blocked_code', 'quota_batch')
  local is_probe = state[1] or call('HEXISTS', P .. 'meta', 'blocked_code') == 1
  return math.min(batch_max_urls(), is_probe and PROBE_URLS or INF, tonumber(state[2] or INF))
end

local function hold_batch(id, site)
  call('ZADD', P .. 'leases', text(now + LEASE), id)
  account_site(site, { batches = 1 })
  rearm_site(site, true)
end

local function send(id, site, urls)
  hold_batch(id, site)
  spend(CREATE)
  if call('HEXISTS', P .. 'meta', 'blocked_code') == 1 then -- one batch at a time finds out whether the block is over
    call('HSET', P .. 'meta', 'blocked_until', text(now + LEASE))
  end
  arm_next() -- whoever follows takes the next token while this one is at work
  return reply(id, urls)
end

local function send_part(id, site)
  local key = P .. 'batch:' .. id
  call('LPOP', P .. 'parts:' .. site)
  call('HINCRBY', key, 'attempt', 1)
  call('HSET', key, 'token', token, 'state', 'sent', 'sent_at', text(now))
  call('HSETNX', key, 'first_sent_at', text(now))
  return send(id, site, urls_of(call('HGET', key, 'members')))
end

local function begin_bulk(site, lane)
  call('HSET', P .. 'batch:' .. new_id, 'v', VERSION, 'site', site, 'lane', lane, 'state', 'gathering', 'token', token, 'attempt', 1,
    'count', 0, 'bytes', 0, 'oldest_at', text(now), 'claimed_at', text(now), 'owners', '', 'members', '')
  rearm_lane(site, lane, true)
  hold_batch(new_id, site)
  arm_next()
  return reply(new_id, {})
end

local function send_new(site, lane)
  if is_for_bulk(site, lane, bulk_least) then return begin_bulk(site, lane) end
  local found = claim(site, lane, most_urls(site), setting('batch_max_bytes'), encoded_size)
  rearm_lane(site, lane, true)
  if not found then
    rearm_site(site, true)
    return nil
  end
  write_claim(new_id, site, lane, found, { 'state', 'sent', 'token', token, 'attempt', 1, 'sent_at', text(now), 'first_sent_at', text(now) })
  return send(new_id, site, found.urls)
end

local opens, why_closed = gate(CREATE)
while look_at_most > 0 do
  local first = call('ZRANGE', P .. 'ring', 0, 0, 'WITHSCORES')
  if #first == 0 then break end
  local site, turn_at = first[1], tonumber(first[2])
  local at, why = hindrance(turn_at, opens, why_closed)
  if at then return waiting(at, why) end
  look_at_most = look_at_most - 1
  local part = call('LINDEX', P .. 'parts:' .. site, 0)
  local lane = not part and call('ZRANGE', P .. 'lanes:' .. site, 0, 0)[1]
  local unreadable
  if part then
    unreadable = readable(call('HGET', P .. 'batch:' .. part, 'v'), 'batch ' .. part)
  else
    unreadable = readable(call('HGET', P .. 'lane:' .. site .. ':' .. lane, 'v'), 'lane ' .. lane .. ' of site ' .. site)
  end
  if unreadable then
    too_new = unreadable
    if lane then call('ZADD', P .. 'lanes:' .. site, text(now + LEASE), lane) end
    rearm_site(site, true)
    if part then call('ZADD', P .. 'ring', text(now + LEASE), site) end
  else
    local taken
    if part then taken = send_part(part, site) else taken = send_new(site, lane) end
    if taken then return taken end
  end
end

if look_at_most <= 0 then return waiting(now + 1, 'cleaning') end
arm_next()
return too_new or { 'idle' }
