#!lua flags=no-writes
-- Read totals and state of some sites at one instant, the first seen first. ARGV: 2 sites to leave out, 3 most sites to read; or 4 the
-- only site to read, if it was ever seen.
-- Returns JSON: {now, account {blocked_code, blocked_hint, blocked_until}, sites [[site, jobs of ours that ESA holds, when its oldest pending
-- URL was accepted or null, its record, with how many URLs are in its lanes, and its name]...]}, moments as ms. O(sites read and their lanes).
local FIELDS = { 'accepted', 'merged', 'submitted', 'refused', 'expired', 'cancelled', 'unknown', 'pending', 'in_flight', 'batches', 'paused',
  'wait_until', 'wait_reason', 'blocked_code', 'blocked_hint', 'job_cap', 'job_cap_until' }
local BLOCK = { 'blocked_code', 'blocked_hint', 'blocked_until' }

local function read(key, fields)
  local values, record = call('HMGET', key, unpack(fields)), {}
  for i, field in ipairs(fields) do record[field] = values[i] or nil end
  return record
end

local first, only, sites = tonumber(ARGV[2]), ARGV[4], {}
local ids
if only then
  ids = call('ZSCORE', P .. 'sites', only) and { only } or {}
else
  ids = call('ZRANGE', P .. 'sites', first, first + tonumber(ARGV[3]) - 1)
end
local names = #ids > 0 and call('HMGET', P .. 'site-names', unpack(ids))
for i, site in ipairs(ids) do
  local oldest, in_lanes = INF, 0
  for _, lane in ipairs(call('ZRANGE', P .. 'lanes:' .. site, 0, -1)) do
    local id = site .. ':' .. lane
    local found = call('HMGET', P .. 'lane:' .. id, 'oldest', 'weight')
    oldest = math.min(oldest, tonumber(found[1] or INF))
    in_lanes = in_lanes + call('HLEN', P .. 'urls:' .. id) * tonumber(found[2] or 1)
  end
  local record = read(P .. 'site:' .. site, FIELDS)
  record.in_lanes, record.name = string.format('%d', in_lanes), names[i] or nil
  sites[#sites + 1] = { site, call('ZCARD', P .. 'jobs:' .. site), oldest < INF and math.floor(oldest) or cjson.null, record }
end
return cjson.encode({ now = math.floor(now), account = read(P .. 'meta', BLOCK), sites = sites })
