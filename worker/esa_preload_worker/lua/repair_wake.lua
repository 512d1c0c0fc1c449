#!lua flags=allow-oom
-- Arm a wake-up for the next moment at which something is due, and drop leases without a batch.
-- Returns: what was done, as sentences. Idempotent. O(leases).
local done = {}
for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
  if call('EXISTS', P .. 'batch:' .. id) == 0 then
    call('ZREM', P .. 'leases', id)
    done[#done + 1] = 'dropped the lease of batch ' .. id .. ', which is gone'
  end
end
local wake = call('HGET', P .. 'meta', 'wake')
if wake and call('EXISTS', 'arq:job:' .. wake) == 0 and call('EXISTS', 'arq:in-progress:' .. wake) == 0 then
  if call('ZREM', P .. 'queue', wake) == 1 then done[#done + 1] = 'dropped a wake-up that arq does not know' end
end
if arm_next() then done[#done + 1] = 'armed a wake-up' end
return done
