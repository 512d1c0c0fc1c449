#!lua flags=allow-oom
-- The batch became a job: compare-and-set, before a plan is made.
-- ARGV: 2 batch, 3 token, 4 job id, 5 the job as JSON, 6 '1' when a plan follows, 7... calls to report (rate.lua).
-- Returns: {'ok', ms to wait before the plan may be created (its token is spent when 0), now}
--        | {'lost', job id on record or '', 1 while the batch lives}.
-- Idempotent for the same job. A claim that lost gives its job no plan and deletes it, unless it is the one on record, or may yet be
-- found by its name while the batch lives without one. O(1).
local key = P .. 'batch:' .. ARGV[2]
local b = call('HMGET', key, 'token', 'job_id')
if b[1] ~= ARGV[3] or (b[2] and b[2] ~= ARGV[4]) then return { 'lost', b[2] or '', b[1] and 1 or 0 } end
call('HSET', key, 'state', 'created', 'job_id', ARGV[4], 'job', ARGV[5])
call('ZADD', P .. 'leases', text(now + setting('lease_ms')), ARGV[2])
if not b[2] then -- a job on record was reported with it
  local was_probing = rate_of(CREATE).probe ~= 0 or circuit().strikes > 0
  report_calls(7)
  local was_blocked = call('HDEL', P .. 'meta', 'blocked_until', 'blocked_code', 'blocked_hint') > 0
  if was_blocked then call('HSET', key, 'ended_block', 1) end -- for the log: the settlement tells
  if was_blocked or was_probing then arm_next() end
end
if ARGV[6] ~= '1' then return { 'ok', 0, text(now) } end
local at, why = gate(PLANS)
if at > now then
  hold(PLANS, why)
  return { 'ok', patience(at, why), text(now) }
end
spend(PLANS)
return { 'ok', 0, text(now) }
