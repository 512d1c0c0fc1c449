#!lua flags=no-writes
-- Read, at one instant, all of a site that must agree. Included by nothing, writes nothing.
-- ARGV: 2 site, 3 how many lanes follow, 4... lanes that a scan of the keys has found, then batches that it has found.
-- Returns: JSON of site {field: text}, is_listed, ring, now, and arrays of lanes, batches, parts, splits, bulks. What is not there is
-- null, and an empty array may be {}. O(lanes + batches + leases): no look at single URLs.
local site, lanes_found = ARGV[2], tonumber(ARGV[3])
local FIRST = 4
local FIELDS = { 'v', 'accepted', 'merged', 'pending', 'in_flight', 'batches', 'submitted', 'refused', 'expired', 'cancelled',
  'unknown', 'paused', 'wait_until', 'blocked_code', 'job_cap', 'job_cap_until' }

local function record(key, fields)
  local values, found = call('HMGET', P .. key, unpack(fields)), {}
  for i, field in ipairs(fields) do found[field] = values[i] or cjson.null end
  return found
end

local function score(key, member)
  return call('ZSCORE', P .. key, member) or cjson.null
end

local lanes, seen_lanes = {}, {}
local function look_at_lane(lane, due)
  if seen_lanes[lane] then return end
  seen_lanes[lane] = true
  local id = site .. ':' .. lane
  local found = record('lane:' .. id, { 'v', 'newest', 'oldest', 'floor', 'bytes', 'weight' })
  found.name, found.due, found.urls = lane, due, call('HLEN', P .. 'urls:' .. id)
  found.exists = call('EXISTS', P .. 'lane:' .. id)
  found.entries = { 0, 0, 0 }
  for b = 0, 2 do found.entries[b + 1] = call('LLEN', P .. 'band:' .. id .. ':' .. b) end
  lanes[#lanes + 1] = found
end

local listed = call('ZRANGE', P .. 'lanes:' .. site, 0, -1, 'WITHSCORES')
for i = 1, #listed, 2 do look_at_lane(listed[i], listed[i + 1]) end
for i = FIRST, FIRST + lanes_found - 1 do look_at_lane(ARGV[i], cjson.null) end

local batches, seen_batches, roots, splits, bulks = {}, {}, {}, {}, {}
local look_at_batch
look_at_batch = function(id)
  if seen_batches[id] then return end
  seen_batches[id] = true
  if call('HGET', P .. 'batch:' .. id, 'site') ~= site then return end
  local found = record('batch:' .. id, { 'v', 'lane', 'state', 'count', 'root', 'bulk' })
  found.id, found.lease = id, score('leases', id)
  batches[#batches + 1] = found
  if found.root ~= cjson.null then roots[found.root] = true end
  local packs = call('LRANGE', P .. 'bulk:' .. id, 0, -1)
  if #packs > 0 then bulks[#bulks + 1] = { id = id, packs = packs } end
  for _, pack in ipairs(packs) do look_at_batch(pack) end
end

local parts = call('LRANGE', P .. 'parts:' .. site, 0, -1)
for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do look_at_batch(id) end
for _, id in ipairs(parts) do look_at_batch(id) end
for i = FIRST + lanes_found, #ARGV do look_at_batch(ARGV[i]) end
local some_roots = {}
for root in pairs(roots) do some_roots[#some_roots + 1] = root end
for _, root in ipairs(some_roots) do -- whoever is held has a sibling that is not, so no root is missed
  local split = record('split:' .. root, { 'live', 'good' })
  split.root, split.held = root, call('LRANGE', P .. 'held:' .. root, 0, -1)
  for _, id in ipairs(split.held) do look_at_batch(id) end
  splits[#splits + 1] = split
end

-- A site whose jobs are capped has no more batches at work than places; near its cap its lanes wait to fill, or for their age.
local slots, quiet_ms, state = setting('site_concurrency'), setting('batch_quiet_ms'), record('site:' .. site, FIELDS)
if state.job_cap ~= cjson.null and tonumber(state.job_cap_until) > now then
  slots = math.min(slots, math.max(1, tonumber(state.job_cap) - call('ZCARD', P .. 'jobs:' .. site)))
end
if call('ZSCORE', P .. 'short', site) then quiet_ms = setting('batch_max_age_ms') end

return cjson.encode({
  now = text(now), site = state, exists = call('EXISTS', P .. 'site:' .. site),
  is_listed = call('ZSCORE', P .. 'sites', site) and 1 or 0, ring = score('ring', site),
  slots = slots, batch_max_urls = batch_max_urls(), batch_max_bytes = setting('batch_max_bytes'),
  batch_max_age_ms = setting('batch_max_age_ms'), batch_quiet_ms = quiet_ms, lease_ms = setting('lease_ms'),
  visit = call('ZRANGE', P .. 'jobs:' .. site, 0, 0, 'WITHSCORES')[2] or cjson.null, agenda = score('agenda', site),
  lanes = lanes, batches = batches, parts = parts, splits = splits, bulks = bulks,
})
