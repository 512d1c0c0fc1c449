#!lua flags=allow-oom
-- Say what a visit to a job has shown. ARGV: 2 site, 3 job, 4 token of the visit, 5 ms until the next one, or 'gone' or 'left' to forget the job,
--   6 its state, 7 ms since when all its plans have ended or '', 8 plans besides ours, 9 looks that told something, 10 share to begin with
--   (jobs.lua), 11... calls to report (rate.lua).
-- Returns: {'ok'} | {'more', share to begin with next}: say the same again without the calls, not all of a bulk is in that state yet
--   | {'lost'} when the visit is another's by now, or the job is gone. The calls are reported either way. Safe to repeat, but for the calls.
-- O(owners + lanes).
local site, job, token, wait, state, ended_at = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local key = P .. 'job:' .. job
if report_calls(11) > 0 then arm_next() end
local j = call('HMGET', key, 'visitor', 'state', 'owners')
if j[1] ~= token then return { 'lost' } end
local more = count_shares(job, tonumber(ARGV[10]), state)
if more then return { 'more', more } end
count_warmth(j[3], j[2], state)
if wait == 'gone' or wait == 'left' then
  forget_job(site, job, wait == 'gone')
  return { 'ok' }
end
call('HSET', key, 'state', state, 'others', ARGV[8], 'looks', ARGV[9])
if ended_at == '' then
  call('HDEL', key, 'ended_at')
else
  call('HSET', key, 'ended_at', ended_at)
end
set_visit(site, job, now + tonumber(wait))
return { 'ok' }
