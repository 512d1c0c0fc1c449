#!lua flags=no-writes
-- Read, at one instant, all of some requests that must agree. Writes nothing. ARGV: 2... numbers of requests, some hundreds at most.
-- Returns: JSON, an array with an object a request: its fields (null where there is none), the TTLs of its three keys
-- (-1 none, -2 no key), its chunks, its scores in `open`, `expiring` and `leaving`, in how many of the two lists of active ones it is and in
-- how many of the done ones (over all, of its site), and what its id points to. O(requests).
local FIELDS = { 'v', 'id', 'site', 'lane', 'expires_at', 'sealed', 'ended', 'done_at', 'lists', 'accepted', 'merged',
  'duplicates', 'pending', 'in_flight', 'submitted', 'refused', 'expired', 'cancelled', 'unknown', 'warming', 'finished', 'failed' }
local out = {}
for i = 2, #ARGV do
  local n = ARGV[i]
  local key = P .. 'request:' .. n
  local values, r = call('HMGET', key, unpack(FIELDS)), { number = n }
  for j, field in ipairs(FIELDS) do r[field] = values[j] or cjson.null end
  r.ttl = call('PTTL', key)
  r.chunks = call('HLEN', P .. 'chunks:' .. n)
  r.chunks_ttl = call('PTTL', P .. 'chunks:' .. n)
  r.open = call('ZSCORE', P .. 'open', n) or cjson.null
  r.expiring = call('ZSCORE', P .. 'expiring', n) or cjson.null
  local site = values[3] or ''
  for _, state in ipairs({ 'active', 'done' }) do
    r[state] = (call('ZSCORE', P .. state, n) and 1 or 0) + (call('ZSCORE', P .. state .. ':' .. site, n) and 1 or 0)
  end
  r.leaving = call('ZSCORE', P .. 'leaving', n .. ':' .. site) or cjson.null
  r.points_to, r.id_ttl = cjson.null, -2
  if values[2] then
    r.points_to = call('GET', P .. 'request-id:' .. values[2]) or cjson.null
    r.id_ttl = call('PTTL', P .. 'request-id:' .. values[2])
  end
  out[#out + 1] = r
end
return cjson.encode(out)
