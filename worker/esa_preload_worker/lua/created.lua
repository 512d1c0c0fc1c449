#!lua flags=allow-oom
-- The batch became a job: compare-and-set, before a plan is made.
-- ARGV: 2 batch, 3 token, 4 job id, 5 the job as JSON, 6 '1' when a plan follows.
-- Returns: {'ok', ms to wait before the plan may be created (its token is spent when 0)}
--        | {'lost', job id on record or '', 1 while the batch lives}.
-- Idempotent for the same job. A claim that lost gives its job no plan and deletes it, unless it is the one on record, or may yet be
-- found by its name while the batch lives without one. O(1).
local key = P .. 'batch:' .. ARGV[2]
local b = call('HMGET', key, 'token', 'job_id')
if b[1] ~= ARGV[3] or (b[2] and b[2] ~= ARGV[4]) then return { 'lost', b[2] or '', b[1] and 1 or 0 } end
call('HSET', key, 'state', 'created', 'job_id', ARGV[4], 'job', ARGV[5])
call('ZADD', P .. 'leases', text(now + setting('lease_ms')), ARGV[2])
if not b[2] then -- a job on record already said so
  went_well(CREATE)
  reached()
  if call('HDEL', P .. 'meta', 'blocked_until', 'blocked_code', 'blocked_hint') > 0 then
    call('HSET', key, 'ended_block', 1) -- for the log: the settlement tells
    arm_next()
  end
end
if ARGV[6] ~= '1' then return { 'ok', 0 } end
local at = gate(PLANS)
if at > now then return { 'ok', math.ceil(at - now) } end
spend(PLANS)
return { 'ok', 0 }
