#!lua flags=allow-oom
-- Hand out the next thing to do: a batch whose lease ran out, or a new batch of the next due lane, or how long to wait.
-- ARGV: 2 token of this claim, 3 id of the pump that asks, 4 id for a new batch.
-- Returns: {'batch', now, id, state, site, lane, attempt, first sent ms, sent ms, oldest ms, root or '', job or '', url...}
--        | {'wait', ms, 1 to stay and ask again or 0 to leave, reason} | {'idle'}.
-- States: 'sent' (call Create now), 'uncertain' (look the name up), 'created' (a plan is missing).
-- Whoever is told to leave is woken by the queue. O(batch); URLs that nobody wants any more are dropped on the way, a bounded
-- number a call.
local token, pump, new_id = ARGV[2], ARGV[3], ARGV[4]
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

local function urls_of(members)
  local urls = {}
  for url in string.gmatch(members, '([^\n ]+) [^\n]+') do urls[#urls + 1] = url end
  return urls
end

local function reply(id, urls)
  local b = call('HMGET', P .. 'batch:' .. id, 'state', 'site', 'lane', 'attempt', 'first_sent_at', 'sent_at',
    'oldest_at', 'root', 'job')
  local out = { 'batch', text(now), id, b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8] or '', b[9] or '' }
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
local look_at_most = 1000 -- entries a call, when most belong to nobody any more

-- While its site or the account is blocked, a batch only finds out whether it still is. Few URLs, since a refusal of the
-- whole is taken apart down to single URLs: 2n - 1 calls.
local PROBE_URLS = 10
local function most_urls(site)
  local state = call('HMGET', P .. 'site:' .. site, 'blocked_code', 'quota_batch')
  local is_probe = state[1] or call('HEXISTS', P .. 'meta', 'blocked_code') == 1
  return math.min(batch_max_urls(), is_probe and PROBE_URLS or INF, tonumber(state[2] or INF))
end

local function claim(site, lane)
  local id = site .. ':' .. lane
  local urls_key = P .. 'urls:' .. id
  local most, most_bytes = most_urls(site), setting('batch_max_bytes')
  local lengths, urls, members, counts, touched = {}, {}, {}, {}, {}
  local bytes, is_exact, oldest, raw, gone, full = 0, false, INF, 0, 0, false
  local given = { [0] = 0, 0, 0 }
  local weight, has_passed = weight_of(site, lane), window_end(lane) <= now
  for b = 0, 2 do lengths[b] = call('LLEN', P .. 'band:' .. id .. ':' .. b) end

  -- The form-encoded size is three bytes a character at most; it is counted only when that bound no longer fits.
  local function encoded(url)
    if not is_exact then return 3 * #url + 3 end
    local _, odd = string.gsub(url, '[^%w%-%._]', '')
    return #url + 2 * odd + 3
  end
  local function fits(url)
    if #urls == 0 or bytes + encoded(url) <= most_bytes then return true end
    if is_exact then return false end
    is_exact, bytes = true, 0
    for i = 1, #urls do bytes = bytes + encoded(urls[i]) end
    return bytes + encoded(url) <= most_bytes
  end

  local function pop(band, want)
    local list = P .. 'band:' .. id .. ':' .. band
    while want > 0 and not full and look_at_most > 0 do
      local popped = call('LPOP', list, want)
      if not popped then return end
      look_at_most = look_at_most - #popped
      local values = call('HMGET', urls_key, unpack(popped))
      local remove, seen = {}, {}
      for i, url in ipairs(popped) do
        local value = values[i]
        local in_band, at, owners
        if value then in_band, at, owners = parse_value(value) end
        if value and in_band == tostring(band) and not seen[url] then
          local found = read_owners(owners)
          local live = has_passed and {} or found.live
          if #live > 0 and not fits(url) then
            full = true -- give back what does not fit, in its order
            local rest = {}
            for j = #popped, i, -1 do rest[#rest + 1] = popped[j] end
            call('LPUSH', list, unpack(rest))
            break
          end
          seen[url] = true
          remove[#remove + 1] = url
          raw = raw + #url
          if #live == 0 then
            gone = gone + weight
            drop(site, lane, url, owners, weight, touched)
          else
            bytes = bytes + encoded(url)
            if at < oldest then oldest = at end
            for _, owner in ipairs(live) do add(counts, owner, weight) end
            if #live < #found.all then value = in_band .. string.format('%.0f', at) .. ':' .. found.text end
            given[band] = given[band] + 1
            urls[#urls + 1] = url
            members[#members + 1] = url .. ' ' .. value
            want = want - 1
          end
        end
      end
      if #remove > 0 then call('HDEL', urls_key, unpack(remove)) end
    end
  end

  -- A tenth of the room is kept for the bands below, while they have something: of small batches, a place now and then. Of batches
  -- that are full by their bytes the bands below get it in the next one, and first.
  local lane_key, below = P .. 'lane:' .. id, lengths[1] + lengths[2]
  local tenths = below > 0 and call('HMGET', lane_key, 'tenths', 'tenths_low') or {}
  local owed, owed_low = tonumber(tenths[1] or 0), tonumber(tenths[2] or 0)
  local function kept(field, before, room, waiting)
    if waiting == 0 then return 0 end
    call('HSET', lane_key, field, (before + room) % 10)
    return math.min(waiting, math.floor((before + room) / 10))
  end
  local first = lengths[0] > 0 and math.min(most, math.floor(owed / 10)) or most
  pop(2, math.min(first, math.floor(owed_low / 10)))
  if lengths[0] > 0 then
    pop(1, first - given[2])
    pop(2, first - given[1] - given[2])
  end
  owed, owed_low = math.max(0, owed - 10 * #urls), math.max(0, owed_low - 10 * given[2])
  pop(0, most - #urls - kept('tenths', owed, most, below))
  local room = most - #urls
  pop(1, room - kept('tenths_low', owed_low, room, lengths[2]))
  for _, band in ipairs({ 2, 0, 1 }) do pop(band, most - #urls) end
  if full and below > 0 then
    local lower = given[1] + given[2]
    call('HSET', lane_key, 'tenths', math.max(0, tonumber(tenths[1] or 0) + #urls - 10 * lower),
      'tenths_low', math.max(0, tonumber(tenths[2] or 0) + lower - 10 * given[2]))
  end

  if raw > 0 then call('HINCRBY', P .. 'lane:' .. id, 'bytes', -raw) end
  account_passed(site)
  account_site(site, { pending = -(#urls * weight + gone) })
  account_site(site, touched)
  return urls, members, counts, oldest, #urls * weight
end

local function send(id, site, urls)
  call('ZADD', P .. 'leases', text(now + LEASE), id)
  account_site(site, { batches = 1 })
  rearm_site(site, true)
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

local function send_new(site, lane)
  local urls, members, counts, oldest, count = claim(site, lane)
  rearm_lane(site, lane, true)
  if #urls == 0 then
    rearm_site(site, true)
    return nil
  end
  local owners = {}
  for owner, n in pairs(counts) do
    account(owner, { pending = -n, in_flight = n })
    owners[#owners + 1] = owner .. ':' .. n
  end
  call('HSET', P .. 'batch:' .. new_id, 'v', VERSION, 'site', site, 'lane', lane, 'state', 'sent', 'token', token,
    'attempt', 1, 'count', count, 'oldest_at', text(oldest), 'claimed_at', text(now), 'sent_at', text(now),
    'first_sent_at', text(now), 'owners', table.concat(owners, ' '), 'members', table.concat(members, '\n'))
  account_site(site, { in_flight = count })
  return send(new_id, site, urls)
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
