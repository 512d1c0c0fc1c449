#!lua flags=no-writes
-- Read, at one instant, all that says why something is not submitted yet, by the functions that decide it. Writes nothing.
-- ARGV: 2 request id or '', 3 site or '' (one of the two), 4 url or '' (with a site), 5 packs of bulk batches to pass over: `packs` of the last
--       reply, which had no time to look for the url in all of them; 0 at first.
-- Returns: {'ok', JSON: Facts in facts.py} | {'unknown'} for a request or site that is not known. Moments are whole ms: `at` is the
-- first at which it is so, or null for now or never by itself. What does not apply is null.
-- `ahead` is an estimate: by the time of acceptance, and for a URL by its place among the CHUNK entries from there, in its own band and
-- those above; entries that are stale are counted. Farther than REACH from both ends of a band it is that of a sample.
-- O(log REACH) steps, each a look into a list of up to REACH / 100 nodes, and O(CHUNK + SAMPLE) for the place in the lane; O(SCAN) batches,
-- lanes and failures, and PACKS packs at most: some milliseconds at worst.
local request_id, site, url, packs_from = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local CHUNK = 1000      -- URLs that one call accepts at most
local SCAN = 1000       -- leases, failures, and lanes that are looked at
local PACKS = 30        -- packs in which a URL is looked for
local STALE_MOST = 20   -- entries of a band in a row
local REACH = 20000     -- entries from either end of a band to which a look is cheap
local SAMPLE = 400      -- URLs of a lane by which the places between are estimated: to 5 % of the lane, mostly
local ALIVE_LEASES = 1.5 -- a worker that was not seen for so many is taken for dead
local OWNERS_MOST = 100 -- of a URL, the latest
local COUNTS = { 'accepted', 'pending', 'in_flight', 'submitted', 'refused', 'expired', 'cancelled', 'unknown', 'lists' }
local null = cjson.null

local function whole(at)
  return at and math.ceil(at) or null
end

-- A moment in the ring and among the lanes counts from the ms that it lies in; one of the gate from the next.
local function due(score)
  score = tonumber(score or INF)
  return score < INF and math.floor(score) or null
end

local function number(value)
  return tonumber(value) or null
end

local request, owner = null, nil
if request_id ~= '' then
  owner = call('GET', P .. 'request-id:' .. request_id)
  local r = owner and call('HMGET', P .. 'request:' .. owner, 'v', 'site', 'lane', 'band', 'created_at', 'expires_at', 'ended', 'done_at')
  if not r or not r[2] then return { 'unknown' } end
  local unreadable = readable(r[1], 'request ' .. request_id)
  if unreadable then return unreadable end
  site = r[2]
  request = { id = request_id, lane = r[3], band = tonumber(r[4]), created_at = tonumber(r[5]), expires_at = number(r[6]),
    ended = r[7] or null }
  local counts = call('HMGET', P .. 'request:' .. owner, unpack(COUNTS))
  for i, name in ipairs(COUNTS) do request[name] = tonumber(counts[i] or 0) end
  if not r[7] and not r[8] and tonumber(r[6] or INF) <= now then -- no claim takes them any more
    request.expired, request.pending, request.ended = request.expired + request.pending, 0, 'expired'
  end
end
if call('EXISTS', P .. 'site:' .. site) == 0 then return { 'unknown' } end

-- Whether anybody still wants a URL, as far as its latest owners tell.
local function is_wanted(owners)
  local left = OWNERS_MOST
  for one in string.gmatch(string.sub(owners, -11 * OWNERS_MOST), '%d+') do
    local r = call('HMGET', P .. 'request:' .. one, 'v', 'ended', 'expires_at', 'done_at')
    if r[1] and not r[2] and (r[4] or tonumber(r[3] or INF) > now) then return true end
    left = left - 1
    if left == 0 then return true end
  end
  return false
end

-- When the first entry of a band from `from` on that is not stale was accepted, if there is one within STALE_MOST, and the entry after it.
local function next_accepted(list, urls, band, from, high)
  local probe = from
  while probe < high and probe < from + STALE_MOST do
    local value = call('HGET', urls, call('LINDEX', list, probe))
    probe = probe + 1
    if value then
      local its_band, its_at = parse_value(value)
      if tonumber(its_band) == band then return its_at, probe end
    end
  end
  return nil, probe
end

-- Of URLs of the lane taken at random, the share that goes before one of this band and time. A look into the middle of a long list walks
-- half of it: 20 ms at ten millions.
local function estimate(id, band, at)
  local found, before = call('HRANDFIELD', P .. 'urls:' .. id, -SAMPLE, 'WITHVALUES'), 0
  for i = 2, #found, 2 do
    local its_band, its_at = parse_value(found[i])
    if tonumber(its_band) == band and its_at < at then before = before + 1 end
  end
  return math.floor(call('HLEN', P .. 'urls:' .. id) * before / SAMPLE)
end

-- About how many entries of a band were accepted before `at`: they lie in order, but for what was promoted or came back. And whether that
-- was only estimated.
local function accepted_before(id, band, at)
  local list, urls = P .. 'band:' .. id .. ':' .. band, P .. 'urls:' .. id
  local low, high = 0, call('LLEN', list)
  local length = high
  if length > 2 * REACH then
    local found = next_accepted(list, urls, band, REACH, length)
    if found and found >= at then
      high = REACH
    else
      found = next_accepted(list, urls, band, length - REACH, length)
      if not found or found >= at then return estimate(id, band, at), true end
      low = length - REACH
    end
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found, after = next_accepted(list, urls, band, middle, high)
    if found and found >= at then high = middle else low = after end
  end
  return math.min(low, length), false
end

-- Thousands of URLs may share the ms of one enqueue: the place among those is looked up, as far as CHUNK entries reach.
local function place_of(id, band, at, member)
  local before, is_estimate = accepted_before(id, band, at)
  local entries = member and not is_estimate and call('LRANGE', P .. 'band:' .. id .. ':' .. band, before, before + CHUNK - 1) or {}
  for i, entry in ipairs(entries) do
    if entry == member then return before + i - 1 end
  end
  return before
end

local function ahead_of(id, band, at, member)
  local ahead = place_of(id, band, at, member)
  for above = 0, band - 1 do ahead = ahead + call('LLEN', P .. 'band:' .. id .. ':' .. above) end
  return ahead
end

-- The URL or the request among what is pending.
local lanes_key, lane_name, pending = P .. 'lanes:' .. site, nil, null
if url ~= '' then
  for _, name in ipairs(call('ZRANGE', lanes_key, 0, SCAN - 1)) do
    local value = call('HGET', P .. 'urls:' .. site .. ':' .. name, url)
    if value then
      local band, at, owners = parse_value(value)
      local _, commas = string.gsub(owners, ',', '')
      pending = { band = tonumber(band), at = at, owners = commas + 1, is_wanted = window_end(name) > now and is_wanted(owners),
        ahead = ahead_of(site .. ':' .. name, tonumber(band), at, url) }
      if pending.is_wanted then
        lane_name = name
        break
      end
    end
  end
elseif owner and (request.pending > 0 or (request.lists > 0 and call('EXISTS', P .. 'urls:' .. site .. ':' .. request.lane) == 1)) then
  lane_name = request.lane
  pending = { band = request.band, at = request.created_at, owners = 1, is_wanted = window_end(lane_name) > now,
    ahead = ahead_of(site .. ':' .. lane_name, request.band, request.created_at) }
end

-- What a batch in such a state asks ESA next: each operation that may not be called now, until when and why.
local NEEDS = { uncertain = { 'ListScheduledPreloadJobs', CREATE }, created = { 'ListScheduledPreloadExecutions', PLANS } }
local function closed_gates(state)
  local closed = {}
  for _, op in ipairs(NEEDS[state] or {}) do
    local at, why = gate(op)
    if at > now then closed[#closed + 1] = { operation = op, at = whole(at), why = why, rate = rate_of(op).rate, fixed = rate_of(op).fixed } end
  end
  return #closed > 0 and closed or null
end

-- A batch that holds it: the first that a look at those of the site finds, in their packs too, or of its split batches.
local function holds(id)
  local b = call('HMGET', P .. 'batch:' .. id, 'site', url ~= '' and 'members' or 'owners')
  if b[1] ~= site then return false end
  if url == '' then return string.find(' ' .. b[2], ' ' .. owner .. ':', 1, true) ~= nil end
  local first = url .. ' '
  return string.sub(b[2], 1, #first) == first or string.find(b[2], '\n' .. first, 1, true) ~= nil
end

local packs_seen, packs = 0, null
local function is_in_packs(id)
  for _, pack in ipairs(call('LRANGE', P .. 'bulk:' .. id, 0, -1)) do
    packs_seen = packs_seen + 1
    if url ~= '' and packs_seen > packs_from + PACKS then
      packs = packs_from + PACKS
      return false
    end
    if packs_seen > packs_from and holds(pack) then return true end
  end
  return false
end

local function urls_in(id, count)
  for _, pack in ipairs(call('LRANGE', P .. 'bulk:' .. id, 0, -1)) do
    count = count + tonumber(call('HGET', P .. 'batch:' .. pack, 'count') or 0)
  end
  return count
end

local batch = null
if url ~= '' or owner then
  local ids, roots = call('ZRANGE', P .. 'leases', 0, SCAN - 1), {}
  for _, id in ipairs(call('LRANGE', P .. 'parts:' .. site, 0, SCAN - 1)) do ids[#ids + 1] = id end
  for _, id in ipairs(ids) do
    local b = call('HMGET', P .. 'batch:' .. id, 'site', 'root')
    if b[1] == site and b[2] and not roots[b[2]] then
      roots[b[2]] = true
      for _, held in ipairs(call('LRANGE', P .. 'held:' .. b[2], 0, SCAN - 1)) do ids[#ids + 1] = held end
    end
  end
  for i, id in ipairs(ids) do
    if i > 2 * SCAN or packs ~= null then break end
    if holds(id) or is_in_packs(id) then
      local b = call('HMGET', P .. 'batch:' .. id, 'state', 'attempt', 'sent_at', 'token', 'lane', 'count', 'v')
      local lease = call('ZSCORE', P .. 'leases', id)
      batch = { id = id, state = b[1], attempt = tonumber(b[2] or 0), sent_at = number(b[3]), is_held = b[4] ~= '', lane = b[5],
        count = urls_in(id, tonumber(b[6] or 0)), is_newer = tonumber(b[7] or VERSION) > VERSION, lease = lease and whole(tonumber(lease)) or null,
        gates = closed_gates(b[1]) }
      break
    end
  end
end

-- How it ended the last time, when that was not well.
local failure = null
if url ~= '' and pending == null and batch == null then
  for _, entry in ipairs(call('XREVRANGE', P .. 'failures:' .. site, '+', '-', 'COUNT', SCAN)) do
    local fields = {}
    for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
    if fields.url == url then
      failure = { state = fields.state, reason = fields.reason, code = fields.code or '', at = tonumber(fields.at) }
      break
    end
  end
end

local function in_front(key, score)
  return score and call('ZCOUNT', key, '-inf', '(' .. text(math.min(tonumber(score), now + 1))) or 0
end

local record = call('HMGET', P .. 'site:' .. site, 'paused', 'wait_until', 'wait_reason', 'blocked_code', 'blocked_hint', 'batches',
  'pending', 'in_flight')
local turn_at, turn_why, turn_lane = site_turn(site)
local in_ring = turn_at and call('ZSCORE', P .. 'ring', site)
if batch == null or batch.state ~= 'ready' then lane_name = lane_name or (url == '' and not owner and turn_lane) or nil end

local lane = null
if lane_name then
  local facts = read_lane(site, lane_name)
  local at, why = lane_turn(facts)
  local score = call('ZSCORE', lanes_key, lane_name)
  local version = tonumber(call('HGET', P .. 'lane:' .. site .. ':' .. lane_name, 'v') or VERSION)
  lane = { name = lane_name, at = due(score or at), why = why, count = facts.count, full = batch_max_urls(),
    is_newer = version > VERSION, ahead = in_front(lanes_key, score), oldest = facts.oldest < INF and facts.oldest or null,
    weight = weight_of(site, lane_name), is_bulk = is_for_bulk(site, lane_name, setting('bulk_min_urls')) }
end

local opens, why_closed = gate(CREATE)
local next_at, next_why = hindrance(tonumber(in_ring) or turn_at or now, opens, why_closed) -- were the site the first of the ring
local meta = call('HMGET', P .. 'meta', 'blocked_code', 'blocked_hint', 'blocked_until')
local account = meta[1] and { code = meta[1], hint = meta[2] or '', at = number(meta[3]) } or null
local seen = call('ZRANGE', P .. 'workers', -1, -1, 'WITHSCORES')
return { 'ok', cjson.encode({
  now = math.floor(now), workers = call('ZCOUNT', P .. 'workers', text(now - ALIVE_LEASES * setting('lease_ms')), '+inf'), seen = number(seen[2]),
  gate = { operation = CREATE, at = opens > now and whole(opens) or null, why = opens > now and why_closed or null, rate = rate_of(CREATE).rate,
    fixed = rate_of(CREATE).fixed },
  account = account, request = request, pending = pending, batch = batch, failure = failure, lane = lane,
  site = { id = site, paused = record[1] or null, waits = due(record[2]), wait_reason = record[3] or null,
    blocked_code = record[4] or null, blocked_hint = record[5] or null, batches = tonumber(record[6] or 0),
    pending = tonumber(record[7] or 0), in_flight = tonumber(record[8] or 0),
    at = turn_at and due(in_ring or turn_at) or null, why = turn_why, ahead = in_front(P .. 'ring', in_ring), },
  packs = packs, next = { at = next_why == 'not due' and due(next_at) or whole(next_at), why = next_why or null },
}) }
