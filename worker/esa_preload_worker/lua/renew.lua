#!lua flags=allow-oom
-- Renew the leases of one worker. ARGV: 2 worker id, 3... batch, token, batch, token ...
-- Returns the batches whose claim is another's by now. O(batches).
local lost = {}
call('ZADD', P .. 'workers', text(now), ARGV[2])
call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', text(now - 60000))
call('PEXPIRE', P .. 'workers', 60000)
for i = 3, #ARGV, 2 do
  if call('HGET', P .. 'batch:' .. ARGV[i], 'token') == ARGV[i + 1] then
    call('ZADD', P .. 'leases', 'XX', text(now + setting('lease_ms')), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
