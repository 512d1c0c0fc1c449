#!lua flags=allow-oom
-- Claim some more URLs for a bulk batch: a pack, which is a batch by itself, but ends with the bulk.
-- ARGV: 2 bulk, 3 token, 4 id for the pack, 5 URLs at most, 6 bytes of their lines at most.
-- Returns: {'pack', 1 while the lane holds more else 0, url...} | {'lost'}. A repeat with the same id returns the same URLs. No URLs: nobody
-- wanted those that were met. O(URLs), claim.lua bounds them.
--   bulk:<b>  list  the packs of a bulk batch that have not ended, in the order of their lines; each is a batch:<pack> in state 'packed'
local id, token, pack, most, most_bytes = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local key = P .. 'batch:' .. id
local b = call('HMGET', key, 'token', 'state', 'site', 'lane', 'oldest_at')
if b[1] ~= token or b[2] ~= 'gathering' then return { 'lost' } end
local site, lane = b[3], b[4]

local function reply(urls)
  return { 'pack', call('EXISTS', P .. 'urls:' .. site .. ':' .. lane), unpack(urls) }
end

local known = call('HMGET', P .. 'batch:' .. pack, 'bulk', 'members')
if known[1] == id then return reply(urls_of(known[2])) end

local unreadable = readable(call('HGET', P .. 'lane:' .. site .. ':' .. lane, 'v'), 'lane ' .. lane .. ' of site ' .. site)
if unreadable then return unreadable end
local found = claim(site, lane, most, most_bytes, line_size)
if found then
  write_claim(pack, site, lane, found, { 'state', 'packed', 'bulk', id })
  call('RPUSH', P .. 'bulk:' .. id, pack)
  call('HINCRBY', key, 'bytes', found.bytes)
  if found.oldest < tonumber(b[5]) then call('HSET', key, 'oldest_at', text(found.oldest)) end
end
rearm_lane(site, lane, false)
rearm_site(site, false)
arm_next()
return reply(found and found.urls or {})
