#!lua flags=allow-oom
-- Make what is derived of a lane agree with its URLs, as a scan has found them.
-- ARGV: 2 site, 3 lane, 4 ms when the oldest URL was accepted or '', 5 bytes that its URLs have or '', 6 bytes on record, 7 URLs and
--       8 `newest` when they were counted, 9... url, value, url, value ... of URLs that no list of their band holds.
-- Returns: what was done, as sentences. Idempotent; a URL that has moved on since, or bytes that changed, are left alone.
-- repair_site.lua, which is to follow, puts the lane where it belongs by then.
-- O(URLs given + 1,000 entries a band).
local site, lane = ARGV[2], ARGV[3]
local id = site .. ':' .. lane
local lane_key, urls_key = P .. 'lane:' .. id, P .. 'urls:' .. id
local SHORT = 1000 -- a longer list is cleaned at its head only: Redis is not held up
local done = {}
local function did(...)
  done[#done + 1] = string.format(...)
end
local unreadable = readable(call('HGET', lane_key, 'v'), 'lane ' .. lane .. ' of site ' .. site)
if unreadable then return unreadable end
if call('EXISTS', urls_key) == 0 then return done end

if ARGV[5] ~= '' then
  local is = call('HMGET', lane_key, 'bytes', 'newest')
  if (is[1] or '0') == ARGV[6] and (is[2] or '') == ARGV[8] and call('HLEN', urls_key) == tonumber(ARGV[7]) then
    if ARGV[5] ~= ARGV[6] then
      call('HSET', lane_key, 'bytes', ARGV[5])
      did('lane "%s" has %s bytes, not %s', lane, ARGV[5], ARGV[6])
    end
  end
end

-- An entry of a band is stale when its URL is gone, is in another band, or stands before it already.
for b = 0, 2 do
  local list = P .. 'band:' .. id .. ':' .. b
  local length = call('LLEN', list)
  if length > 0 and length <= SHORT then
    local kept, seen = {}, {}
    for _, url in ipairs(call('LRANGE', list, 0, -1)) do
      local value = not seen[url] and call('HGET', urls_key, url)
      if value and parse_value(value) == tostring(b) then
        seen[url] = true
        kept[#kept + 1] = url
      end
    end
    if #kept < length then
      call('DEL', list)
      if #kept > 0 then call('RPUSH', list, unpack(kept)) end
      did('dropped %d stale entries of %s', length - #kept, 'band:' .. id .. ':' .. b)
    end
  end
end

local put, oldest = 0, tonumber(ARGV[4] ~= '' and ARGV[4] or INF)
for i = 9, #ARGV, 2 do
  local url, value = ARGV[i], ARGV[i + 1]
  if call('HGET', urls_key, url) == value then
    local band, at = parse_value(value)
    local list = P .. 'band:' .. id .. ':' .. band
    if not call('LPOS', list, url, 'MAXLEN', SHORT) then -- a second entry further back would be stale, and skipped
      call('LPUSH', list, url)
      oldest = math.min(oldest, at)
      put = put + 1
    end
  end
end
local known = call('HMGET', lane_key, 'floor', 'oldest')
if put > 0 then
  note_disorder(site, lane, oldest) -- at the head, where it may hide an older one
  did('put %d URLs back into the lists of lane "%s"', put, lane)
elseif oldest < math.min(tonumber(known[1] or INF), tonumber(known[2] or INF)) then
  note_disorder(site, lane, oldest)
  did('lane "%s" is as old as its oldest URL', lane)
end
return done
