#!lua
-- Take one chunk of a request into its lane, and seal the request when its last chunk is in.
-- ARGV: 2 request id, 3 site, 4 plan as the producer wrote it, 5 lane of that plan, 6 band (0 high, 1 normal, 2 low),
--       7 ms until expiry or '', 8 source, 9 chunk number or '' for none, 10 its digest,
--       11 number of chunks in all or '' when not known yet, 12 URLs that each entry stands for (1, but for a list in OSS),
--       13 'enqueued' or 'requeued', 14 actor, 15 trace context or '', 16 entries of the site's failures that it takes up, with spaces between, or
--       '': forgotten with it, 17... urls (distinct, normalised, at most 1,000).
-- Returns: {'ok', accepted, merged, duplicates, waiting until ms or 0, 1 if sealed} | {'conflict', what differs} | {'full', pending, bound}
--        | {'lanes', bound} | {'owners', bound} | {'ended', how}.
-- Repeating a chunk changes nothing and returns what it returned. O(urls), and the bytes of the owners of those that are pending.
local request_id, site, plan, lane, band = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local expires_in, source, number, digest, total = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local weight, action, actor, trace = tonumber(ARGV[12]), ARGV[13], ARGV[14], ARGV[15]
local FIRST = 17

-- Returns 1 once the request is sealed. Written again when it was: who waits for the disk waits for its own write only.
local function seal(owner, key, sealed)
  if total ~= '' and (sealed or call('HLEN', P .. 'chunks:' .. owner) == tonumber(total)) then
    call('HSET', key, 'sealed', sealed or total)
    if not sealed then account(owner, {}) end
    sealed = total
  end
  if not sealed then return 0 end
  call('ZREM', P .. 'open', owner)
  return 1
end

local site_key = P .. 'site:' .. site
local owner = call('GET', P .. 'request-id:' .. request_id)
local key
if owner then
  key = P .. 'request:' .. owner
  ended(owner)
  local r = call('HMGET', key, 'v', 'site', 'plan', 'band', 'expires_in', 'lane', 'sealed', 'ended')
  local unreadable = readable(r[1], 'request ' .. request_id)
  if unreadable then return unreadable end
  local sent = { site = site, plan = plan, priority = band, expires_in = expires_in }
  local known = { site = r[2], plan = r[3], priority = r[4], expires_in = r[5] }
  for _, what in ipairs({ 'site', 'plan', 'priority', 'expires_in' }) do
    if sent[what] ~= known[what] then return { 'conflict', what } end
  end
  lane = r[6]
  if r[7] and not r[8] and total ~= '' and r[7] ~= total then return { 'conflict', 'number of chunks' } end
  if number ~= '' then
    local before = call('HGET', P .. 'chunks:' .. owner, number)
    if before then
      local was, accepted, merged, duplicates = string.match(before, '^(%S*) (%d+) (%d+) (%d+)$')
      if was ~= digest then return { 'conflict', 'chunk ' .. number } end
      local sealed = seal(owner, key, r[7])
      local waits = tonumber(call('HGET', site_key, 'wait_until') or 0)
      return { 'ok', tonumber(accepted), tonumber(merged), tonumber(duplicates), waits > now and waits or 0, sealed }
    end
    if r[8] then return { 'ended', r[8] } end
    if r[7] then return { 'conflict', 'chunk ' .. number } end
  elseif r[8] and r[7] ~= total then
    return { 'ended', r[8] }
  end
end

-- Whether so many owners are on record as are kept; some of them may have ended.
local function is_full(owners)
  if #owners < 2 * setting('owners_max') - 1 then return false end -- a digit and a comma each, at least
  local _, commas = string.gsub(owners, ',', '')
  return commas + 1 >= setting('owners_max')
end

local function is_owner(owners)
  return owner and string.find(',' .. owners .. ',', ',' .. owner .. ',', 1, true)
end

-- Whether a URL has as many owners as are kept: ending it must stay a short script.
local function is_crowded(value)
  if #value < 2 * setting('owners_max') then return false end
  local _, _, owners = parse_value(value)
  return is_full(owners) and not is_owner(owners) and #read_owners(owners).live >= setting('owners_max')
end

-- Those who still want a URL, as they are stored, or how it ended. While the newest one wants it the others need no look, unless they
-- are as many as are kept.
local function wanted_by(owners)
  if not is_full(owners) and not ended(string.match(owners, '%d+$', -20)) then return owners end
  local found = read_owners(owners)
  return found.text, found.how
end

local count = #ARGV - FIRST + 1
local id = site .. ':' .. lane
local urls_key = P .. 'urls:' .. id
local lane_is_new, values
if count > 0 then
  local version = call('HGET', P .. 'lane:' .. id, 'v')
  local unreadable = readable(version, 'lane ' .. lane .. ' of site ' .. site)
  if unreadable then return unreadable end
  lane_is_new = not version
  values = call('HMGET', urls_key, unpack(ARGV, FIRST))
  local more = 0
  for i = 1, count do
    if not values[i] then more = more + weight end
  end
  local pending = tonumber(call('HGET', site_key, 'pending') or 0)
  local bound = setting('max_pending_per_site')
  if more > 0 and pending + more > bound then return { 'full', pending, bound } end
  for i = 1, count do
    if values[i] and is_crowded(values[i]) then return { 'owners', setting('owners_max') } end
  end
  local lanes = setting('max_lanes_per_site')
  if lane_is_new and not is_list(lane) and call('ZCARD', P .. 'lanes:' .. site) >= lanes then return { 'lanes', lanes } end
end

local is_new = not owner
if is_new then
  owner = string.format('%.0f', call('HINCRBY', P .. 'meta', 'requests', 1))
  key = P .. 'request:' .. owner
  call('SET', P .. 'request-id:' .. request_id, owner)
  call('HSET', key, 'v', VERSION, 'id', request_id, 'site', site, 'plan', plan, 'lane', lane, 'band', band,
    'expires_in', expires_in, 'source', source, 'actor', actor, 'created_at', text(now))
  if trace ~= '' then call('HSET', key, 'trace', trace) end
  list_request(owner, site, 'active')
  call('ZADD', P .. 'sites', 'NX', text(now), site)
  call('HSETNX', site_key, 'v', VERSION)
  if expires_in ~= '' then
    local at = text(now + tonumber(expires_in))
    call('HSET', key, 'expires_at', at)
    call('ZADD', P .. 'expiring', at, owner)
  end
end

local accepted, merged, duplicates = 0, 0, 0
if count > 0 then
  local mine = band .. string.format('%.0f', now) .. ':' .. owner
  local fields, queued, fresh, bytes, dropped, disordered, seen = {}, {}, 0, 0, {}, INF, {}
  for i = 1, count do
    local url, value = ARGV[FIRST + i - 1], values[i]
    local new_value
    if seen[url] then
      duplicates = duplicates + 1
    elseif not value then
      new_value = mine
      queued[#queued + 1] = url
      fresh = fresh + 1
      bytes = bytes + #url
      accepted = accepted + weight
    else
      local old_band, at, owners = parse_value(value)
      if is_owner(owners) then
        duplicates = duplicates + 1
      else
        accepted = accepted + 1
        local into = old_band
        local known_owners, how = wanted_by(owners)
        if known_owners == '' then -- nobody wants the old one any more: its work ends here and this one's begins
          add(dropped, how, 1)
          disordered = math.min(disordered, at)
          at, into = now, band
        else
          merged = merged + 1
          if tonumber(band) < tonumber(old_band) then into = band end
        end
        if into ~= old_band then
          queued[#queued + 1] = url
          disordered = math.min(disordered, at)
        end
        new_value = into .. string.format('%.0f', at) .. ':' .. (known_owners == '' and '' or known_owners .. ',') .. owner
      end
    end
    seen[url] = true
    if new_value then
      fields[#fields + 1] = url
      fields[#fields + 1] = new_value
    end
  end
  if #fields > 0 then call('HSET', urls_key, unpack(fields)) end
  if #queued > 0 then call('RPUSH', P .. 'band:' .. id .. ':' .. band, unpack(queued)) end
  if disordered < INF then note_disorder(site, lane, disordered) end
  if #fields > 0 then
    call('HSET', P .. 'lane:' .. id, 'newest', text(now))
    if is_list(lane) then
      call('HSET', P .. 'lane:' .. id, 'weight', weight)
      call('HSET', key, 'lists', 1)
    end
    if lane_is_new then call('HSET', P .. 'lane:' .. id, 'v', VERSION) end
    if bytes > 0 then call('HINCRBY', P .. 'lane:' .. id, 'bytes', bytes) end
    dropped.accepted = accepted
    dropped.merged = merged
    dropped.pending = fresh * weight
    account_site(site, dropped)
  end
end
for entry in string.gmatch(ARGV[16], '%S+') do call('XDEL', P .. 'failures:' .. site, entry) end
if number ~= '' then
  call('HSET', P .. 'chunks:' .. owner, number, string.format('%s %d %d %d', digest, accepted, merged, duplicates))
  call('ZADD', P .. 'open', text(now), owner)
end

account(owner, { accepted = accepted, merged = merged, duplicates = duplicates, pending = accepted })
local sealed = seal(owner, key, call('HGET', key, 'sealed'))
if is_new then
  local detail = is_list(lane) and 'a list in OSS' or sealed == 1 and string.format('URLs: %d', accepted) or 'URLs in chunks'
  note_change(action, actor, { source = source, site = site, request = request_id, detail = detail })
end

if count > 0 then
  rearm_lane(site, lane, false)
  local due = rearm_site(site, false)
  if due then arm(due) end
end
local waits = tonumber(call('HGET', site_key, 'wait_until') or 0)
return { 'ok', accepted, merged, duplicates, waits > now and waits or 0, sealed }
