#!lua flags=allow-oom
-- Make what is derived of a site agree with its lanes and batches. Touches no URL and no request, and a batch only
-- where `mend_split` says so. ARGV: as check_site.lua. Returns: what was done, as sentences. Idempotent. O(lanes + batches + leases).
local site, lanes_found = ARGV[2], tonumber(ARGV[3])
local FIRST = 4
local site_key = P .. 'site:' .. site
local done = {}
local function did(...)
  done[#done + 1] = string.format(...)
end

local unreadable = readable(call('HGET', site_key, 'v'), 'site ' .. site)
if unreadable then return unreadable end

-- Batches first: what a scan found, and what the indexes name.
local batches, seen, roots = {}, {}, {}
local look_at_batch
look_at_batch = function(id)
  if seen[id] then return true end
  local values = call('HMGET', P .. 'batch:' .. id, 'site', 'state', 'count', 'root', 'v', 'bulk')
  if values[1] ~= site then return false end
  unreadable = unreadable or readable(values[5], 'batch ' .. id)
  seen[id] = { id = id, state = values[2], count = tonumber(values[3] or 0), root = values[4], bulk = values[6] }
  batches[#batches + 1] = seen[id]
  if values[4] then roots[values[4]] = true end
  for _, pack in ipairs(call('LRANGE', P .. 'bulk:' .. id, 0, -1)) do look_at_batch(pack) end
  return true
end
for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do look_at_batch(id) end
for _, id in ipairs(call('LRANGE', P .. 'parts:' .. site, 0, -1)) do look_at_batch(id) end
for i = FIRST + lanes_found, #ARGV do look_at_batch(ARGV[i]) end
local some_roots = {}
for root in pairs(roots) do some_roots[#some_roots + 1] = root end
for _, root in ipairs(some_roots) do
  for _, id in ipairs(call('LRANGE', P .. 'held:' .. root, 0, -1)) do look_at_batch(id) end
end
if unreadable then return unreadable end

-- Leave in a list exactly one entry for each batch that belongs there.
local function mend_list(key, belongs)
  local there = {}
  for _, id in ipairs(call('LRANGE', P .. key, 0, -1)) do
    if there[id] or not (seen[id] and belongs(seen[id])) then
      call('LREM', P .. key, there[id] and -1 or 0, id)
      did('took batch %s out of %s', id, key)
    else
      there[id] = true
    end
  end
  for _, b in ipairs(batches) do
    if belongs(b) and not there[b.id] then
      call('RPUSH', P .. key, b.id)
      did('put batch %s into %s', b.id, key)
    end
  end
end

mend_list('parts:' .. site, function(b) return b.state == 'ready' end)
local function mend_split(root)
  mend_list('held:' .. root, function(b) return b.state == 'held' and b.root == root end)
  local key, live, last_held = P .. 'split:' .. root, 0, nil
  for _, b in ipairs(batches) do
    if b.root == root then
      if b.state == 'held' then last_held = b else live = live + 1 end
    end
  end
  if live == 0 and last_held then -- nobody would ever judge the held ones: send one of them once more
    live, last_held.state = 1, 'ready'
    call('HSET', P .. 'batch:' .. last_held.id, 'state', 'ready', 'token', '')
    call('LREM', P .. 'held:' .. root, 0, last_held.id)
    call('RPUSH', P .. 'parts:' .. site, last_held.id)
    did('batch %s is to be sent once more: nobody was left to judge the parts of %s', last_held.id, root)
  end
  local was = call('HGET', key, 'live')
  if live > 0 and was ~= tostring(live) then
    call('HSET', key, 'live', live)
    did('split:%s counts %d live parts, not %s', root, live, was or 'none')
  end
end
for _, root in ipairs(some_roots) do mend_split(root) end
local bulks = {}
for _, b in ipairs(batches) do
  if call('EXISTS', P .. 'bulk:' .. b.id) == 1 then bulks[b.id] = true end
  if b.bulk and seen[b.bulk] then bulks[b.bulk] = true end
end
for id in pairs(bulks) do
  mend_list('bulk:' .. id, function(b) return b.bulk == id end)
end

local in_flight, at_work = 0, 0
for _, b in ipairs(batches) do
  in_flight = in_flight + b.count
  local leased = call('ZSCORE', P .. 'leases', b.id)
  if b.state == 'ready' or b.state == 'held' or b.state == 'packed' then
    if leased then
      call('ZREM', P .. 'leases', b.id)
      did('took the lease of batch %s, which is %s', b.id, b.state)
    end
  else
    at_work = at_work + 1
    if not leased then -- whoever holds it has the time to renew
      call('ZADD', P .. 'leases', text(now + setting('lease_ms')), b.id)
      did('gave batch %s a lease', b.id)
    end
  end
end

-- Lanes.
local pending, lanes = 0, {}
local function look_at_lane(lane)
  if lanes[lane] then return end
  lanes[lane] = true
  local id = site .. ':' .. lane
  unreadable = unreadable or readable(call('HGET', P .. 'lane:' .. id, 'v'), 'lane ' .. lane .. ' of site ' .. site)
  if unreadable then return end
  local count = call('HLEN', P .. 'urls:' .. id)
  local due = call('ZSCORE', P .. 'lanes:' .. site, lane)
  pending = pending + count * weight_of(site, lane)
  if count == 0 then
    local dropped = call('ZREM', P .. 'lanes:' .. site, lane)
      + call('UNLINK', P .. 'lane:' .. id, P .. 'band:' .. id .. ':0', P .. 'band:' .. id .. ':1', P .. 'band:' .. id .. ':2')
    if dropped > 0 then did('forgot lane "%s", which is empty', lane) end
    return
  end
  if call('HSETNX', P .. 'lane:' .. id, 'v', VERSION) == 1 then did('gave lane "%s" its record', lane) end
  rearm_lane(site, lane, false)
  local at = call('ZSCORE', P .. 'lanes:' .. site, lane)
  if not due then
    did('put lane "%s" into lanes:%s', lane, site)
  elseif math.abs(tonumber(at) - tonumber(due)) > 1 then
    did('lane "%s" falls due %.0f ms %s', lane, math.abs(tonumber(due) - tonumber(at)), tonumber(at) < tonumber(due) and 'earlier' or 'later')
  end
end
for _, lane in ipairs(call('ZRANGE', P .. 'lanes:' .. site, 0, -1)) do look_at_lane(lane) end
for i = FIRST, FIRST + lanes_found - 1 do look_at_lane(ARGV[i]) end
if unreadable then return unreadable end

for field, right in pairs({ pending = pending, in_flight = in_flight, batches = at_work }) do
  local was = tonumber(call('HGET', site_key, field) or 0)
  if was ~= right then
    call('HSET', site_key, field, string.format('%.0f', right))
    did('site:%s has %s %.0f, not %.0f', site, field, right, was)
  end
end
if call('EXISTS', site_key) == 1 and call('ZADD', P .. 'sites', 'NX', text(now), site) == 1 then did('put site %s into sites', site) end

local visit, planned = call('ZRANGE', P .. 'jobs:' .. site, 0, 0, 'WITHSCORES')[2], call('ZSCORE', P .. 'agenda', site)
if visit and visit ~= planned then
  call('ZADD', P .. 'agenda', visit, site)
  call('PEXPIRE', P .. 'agenda', string.format('%.0f', tonumber(visit) - now + setting('request_ttl_ms')))
  did('put site %s into the agenda', site)
elseif planned and not visit then
  call('ZREM', P .. 'agenda', site)
  did('took site %s out of the agenda', site)
end

local was = call('ZSCORE', P .. 'ring', site)
local due = rearm_site(site, false)
local is = call('ZSCORE', P .. 'ring', site)
if was and not is then
  did('took site %s out of the ring', site)
elseif is and not was then
  did('put site %s into the ring', site)
elseif is and math.abs(tonumber(is) - tonumber(was)) > 1 then
  did('site %s has its turn %.0f ms %s', site, math.abs(tonumber(was) - tonumber(is)), tonumber(is) < tonumber(was) and 'earlier' or 'later')
end
if due then arm(due) end
return done
