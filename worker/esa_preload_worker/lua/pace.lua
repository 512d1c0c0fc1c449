#!lua flags=allow-oom
-- Ask for one call of an operation. ARGV: 2 operation, 3 batch or '', 4 its token.
-- Returns: {'ok'} when it may be made now | {'wait', ms} | {'lost'} when the batch is another's by now.
-- With a batch and Create it also writes down that the batch is being sent, now. O(1).
local op, batch, token = ARGV[2], ARGV[3], ARGV[4]
local key = P .. 'batch:' .. batch
if batch ~= '' and call('HGET', key, 'token') ~= token then return { 'lost' } end
local at = gate(op)
if at > now then return { 'wait', math.ceil(at - now) } end
spend(op)
if batch ~= '' and op == CREATE then
  call('HSET', key, 'state', 'sent', 'sent_at', text(now))
  call('HINCRBY', key, 'creates', 1)
end
return { 'ok' }
