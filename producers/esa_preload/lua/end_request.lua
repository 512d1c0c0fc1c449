#!lua flags=allow-oom
-- End what a request still has pending, at once; what is in flight goes on and is accounted when it ends.
-- ARGV: 2 request id or '' , 3 owner number or '' (one of the two), 4 how: 'expired' or 'cancelled',
--   5 actor.
-- Returns: {'ok', urls ended now, urls in flight} | {'unknown'}. Idempotent. O(1): lanes drop the urls when they meet them.
local owner = ARGV[3]
if owner == '' then owner = call('GET', P .. 'request-id:' .. ARGV[2]) end
local key = owner and P .. 'request:' .. owner
if not owner or call('EXISTS', key) == 0 then
  if owner then call('ZREM', P .. 'expiring', owner) end
  return { 'unknown' }
end
ended(owner)
local r = call('HMGET', key, 'v', 'ended', 'done_at', 'in_flight', 'id', 'site')
local unreadable = readable(r[1], 'request ' .. owner)
if unreadable then return unreadable end
local flying = tonumber(r[4] or 0)
if r[2] or r[3] then return { 'ok', 0, flying } end
local pending = end_owner(owner, ARGV[4])
if ARGV[4] == 'cancelled' then
  note_change('cancelled', ARGV[5], { site = r[6], request = r[5], detail = string.format('URLs: %d', pending) })
end
return { 'ok', pending, flying }
