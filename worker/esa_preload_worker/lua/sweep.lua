#!lua flags=allow-oom
-- Repair what a crash, an outage or arq dropped; one worker at a time. ARGV: 2 worker id, 3 ms the turn lasts.
-- Returns: {'ok', 1 when more is to be done at once or 0, requests left open for too long and sealed, wake-ups armed, 1 when this worker
--   is to list the account's sites now or 0, site, urls expired since the last sweep, site, urls ...} | {'not mine'}.
-- Needs nothing but the ledger. At most so many a call: some 8 ms in all.
local REQUESTS = 64 -- of each kind: about 40 us each
local LANES = 32    -- with URLs that nobody wants any more, or whose window has passed: about 50 us each
local RECORDS = 256 -- that have gone: about 5 us each
local URLS = 256    -- of those lanes: about 7 us for one that is dropped and named
local SITES = 256   -- whose expired URLs are reported: about 3 us each
local turn_key = P .. 'sweeper'
local whose = call('GET', turn_key)
if whose and whose ~= ARGV[2] then return { 'not mine' } end
call('SET', turn_key, ARGV[2], 'PX', ARGV[3])

local over = call('ZRANGEBYSCORE', P .. 'expiring', '-inf', text(now), 'LIMIT', 0, REQUESTS)
for _, owner in ipairs(over) do
  local version = call('HGET', P .. 'request:' .. owner, 'v')
  if tonumber(version or VERSION) <= VERSION then
    ended(owner)
    call('ZREM', P .. 'expiring', owner)
  end
end

local sealed = 0
local left_open = call('ZRANGEBYSCORE', P .. 'open', '-inf', text(now - setting('open_ttl_ms')), 'LIMIT', 0, REQUESTS)
for _, owner in ipairs(left_open) do
  local version = call('HGET', P .. 'request:' .. owner, 'v')
  if tonumber(version or VERSION) <= VERSION then
    call('ZREM', P .. 'open', owner)
    if version then
      call('HSET', P .. 'request:' .. owner, 'sealed', call('HLEN', P .. 'chunks:' .. owner))
      account(owner, {})
      sealed = sealed + 1
    end
  end
end

local gone = call('ZRANGEBYSCORE', P .. 'leaving', '-inf', text(now), 'LIMIT', 0, RECORDS)
for _, id in ipairs(gone) do
  local owner, site = string.match(id, '^(%d+):(%d+)$')
  unlist_request(owner, site, 'done')
  call('ZREM', P .. 'leaving', id)
end

-- Drop what nobody wants any more, or all once the window has passed, where perhaps no claim comes for long: a walk over the lane, some
-- URLs a call. Returns how many were looked at.
local function walk(id, count)
  local site, lane = string.match(id, '^(%d+):(.*)$')
  local lane_key, urls_key = P .. 'lane:' .. id, P .. 'urls:' .. id
  local record = call('HMGET', lane_key, 'v', 'drop_cursor')
  if not record[1] or tonumber(record[1]) > VERSION then
    call('ZREM', P .. 'dropping', id)
    return 1
  end
  local page = call('HSCAN', urls_key, record[2] or '0', 'COUNT', count)
  local remove, bytes, sums, weight, ends = {}, 0, {}, weight_of(site, lane), window_end(lane)
  for i = 1, #page[2], 2 do
    local url = page[2][i]
    local _, _, owners = parse_value(page[2][i + 1])
    if ends <= now or #read_owners(owners).live == 0 then
      remove[#remove + 1] = url
      bytes = bytes + #url
      drop(site, lane, url, owners, weight, sums)
    end
  end
  local is_over = page[1] == '0'
  if is_over and call('HDEL', lane_key, 'drop_again') == 0 then
    call('HDEL', lane_key, 'drop_cursor')
    if ends < INF then
      call('ZADD', P .. 'dropping', text(math.max(ends, now)), id)
    else
      call('ZREM', P .. 'dropping', id)
    end
  else
    call('HSET', lane_key, 'drop_cursor', page[1])
    call('ZADD', P .. 'dropping', text(now), id)
  end
  if #remove > 0 then
    for i = 1, #remove, 1000 do call('HDEL', urls_key, unpack(remove, i, math.min(i + 999, #remove))) end
    call('HINCRBY', lane_key, 'bytes', -bytes)
    account_passed(site)
    sums.pending = -#remove * weight
    account_site(site, sums)
    rearm_lane(site, lane, false)
    rearm_site(site, false)
  end
  return math.max(1, #page[2] / 2)
end

local look_at_most = URLS
local lanes = call('ZRANGEBYSCORE', P .. 'dropping', '-inf', text(now), 'LIMIT', 0, LANES)
for _, id in ipairs(lanes) do
  if look_at_most <= 0 then break end
  look_at_most = look_at_most - walk(id, look_at_most)
end

call('ZREMRANGEBYSCORE', P .. 'waiters', '-inf', now)
local armed = arm_next() and 1 or 0
local expired, cursor = {}, '0'
repeat
  local page = call('HSCAN', P .. 'meta', cursor, 'MATCH', 'expired:*', 'COUNT', SITES)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    if call('HDEL', P .. 'meta', page[2][i]) == 1 then
      expired[#expired + 1] = string.match(page[2][i], '%d+$')
      expired[#expired + 1] = tonumber(page[2][i + 1])
    end
  end
until cursor == '0' or #expired >= 2 * SITES

-- By one worker every ten minutes; within one when somebody asked for a name that is not known.
local LISTED_MS, WANTED_MS = 600000, 60000
local names = call('HMGET', P .. 'meta', 'names_turn', 'names_wanted')
local lists = now - tonumber(names[1] or 0) >= (names[2] and WANTED_MS or LISTED_MS)
if lists then
  call('HSET', P .. 'meta', 'names_turn', text(now))
  call('HDEL', P .. 'meta', 'names_wanted')
end

local more = #over == REQUESTS or #left_open == REQUESTS or #gone == RECORDS or #lanes == LANES or look_at_most <= 0 or cursor ~= '0'
return { 'ok', more and 1 or 0, sealed, armed, lists and 1 or 0, unpack(expired) }
