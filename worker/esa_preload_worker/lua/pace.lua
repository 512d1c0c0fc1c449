#!lua flags=allow-oom
-- Ask for one call of an operation. ARGV: 2 operation, 3 batch or '', 4 its token, 5... calls to report first (rate.lua).
-- Returns: {'ok', now} when it may be made now | {'wait', ms} | {'lost'} when the batch is another's by now.
-- With a batch and Create it also writes down that the batch is being sent, now. O(1).
local op, batch, token = ARGV[2], ARGV[3], ARGV[4]
local key = P .. 'batch:' .. batch
if report_calls(5) > 0 then arm_next() end
if batch ~= '' and call('HGET', key, 'token') ~= token then return { 'lost' } end
local unreadable = unsupported_rate(op)
if unreadable then return unreadable end
local at, why = gate(op)
if at > now then
  hold(op, why)
  return { 'wait', patience(at, why) }
end
spend(op)
if batch ~= '' and op == CREATE then
  call('HSET', key, 'state', 'sent', 'sent_at', text(now))
  call('HINCRBY', key, 'creates', 1)
end
return { 'ok', text(now) }
