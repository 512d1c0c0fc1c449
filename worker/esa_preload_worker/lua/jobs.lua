-- The jobs of ours that a site holds, as settled in this ledger: what is known of their plans, and when to look at them next. Included
-- after rate.lua by the scripts that put a job on record, look at it, or forget it.
--   job:<j>    hash  v, site, batch, plan, urls, owners '<n>:<urls> ...' (submitted ones), state, starts_at, done_at, ended_at, others, looks, visitor
--                    of a bulk batch `bulk`, and no owners: they are in
--   shares:<j> list  '<state> <n>:<urls> ...', a pack each: its state follows that of the job
--   jobs:<s>   zset  job -> ms of the next visit: ZCARD tells how many of the site's jobs are ours
--   agenda     zset  site -> ms of its next visit
--   short      zset  site that holds SHORT of the jobs it may have -> ms of the last look for one of its jobs
-- Each has a TTL as a last resort: jobs that nobody can look at are forgotten REQUEST_TTL after they should have ended.
local SHORT = 0.8              -- from this part of its cap on a site's lanes wait to fill, and its jobs are looked at first
local JOB_CAP_MS = 60000       -- a site that holds as many jobs as it may tries once a minute, or when one was deleted
local JOB_CAP_TTL_MS = 86400000 -- a cap is forgotten a day after ESA last said so: jobs of others may have gone
local STARTS_MS = 1000          -- a plan that starts sooner has started: clocks differ a little
local PLANS_LISTED = 'ListScheduledPreloadExecutions'
local GROWTH = 0.1             -- more were taken than we thought: the cap is so much higher, until ESA says otherwise

local function owners_text(counts)
  local owners = {}
  for owner, n in pairs(counts) do owners[#owners + 1] = owner .. ':' .. n end
  return table.concat(owners, ' ')
end

local function state_of_plan(facts)
  return facts.unplanned and 'unplanned' or facts.starts > now + STARTS_MS and 'waiting' or 'warming'
end

-- Count the URLs of a job in the requests that still have a record: `from` and `to` are states, of which these three are counts. Returns
-- the number of owners.
local WARMTH = { warming = true, finished = true, failed = true }
local function count_warmth(owners, from, to)
  local seen = 0
  if from == to then return seen end
  for owner, n in string.gmatch(owners, '(%d+):(%d+)') do
    seen = seen + 1
    local key = P .. 'request:' .. owner
    if call('EXISTS', key) == 1 then
      if WARMTH[from] then call('HINCRBY', key, from, '-' .. n) end
      if WARMTH[to] then call('HINCRBY', key, to, n) end
    end
  end
  return seen
end

-- What ESA has taken of a pack, in the requests and for the visits to come.
local function keep_share(facts, counts, warmth)
  local key, owners = P .. 'shares:' .. facts.job, owners_text(counts)
  count_warmth(owners, nil, warmth)
  call('RPUSH', key, warmth .. ' ' .. owners)
  live_until(key, math.max(now, facts.done))
end

-- Bring the shares of a job into its state, from the one of index `from` on. Returns where to go on, or nil once all are. What was done
-- is done, whoever repeats it. O(SHARE_OWNERS + owners of a pack).
local SHARE_OWNERS = 500
local function count_shares(job, from, state)
  local key, left = P .. 'shares:' .. job, SHARE_OWNERS
  while left > 0 do
    local share = call('LINDEX', key, from)
    if not share then return nil end
    local was, owners = string.match(share, '^(%a+) (.*)$')
    if was ~= state then
      left = left - count_warmth(owners, was, state)
      call('LSET', key, from, state .. ' ' .. owners)
    end
    from, left = from + 1, left - 1
  end
  return from
end

local function set_agenda(site)
  local first = call('ZRANGE', P .. 'jobs:' .. site, 0, 0, 'WITHSCORES')
  if #first == 0 then
    call('ZREM', P .. 'agenda', site)
  else
    call('ZADD', P .. 'agenda', first[2], site)
    live_until(P .. 'agenda', tonumber(first[2]))
  end
end

local function set_visit(site, job, at)
  call('ZADD', P .. 'jobs:' .. site, text(at), job)
  live_until(P .. 'jobs:' .. site, at)
  live_until(P .. 'job:' .. job, at)
  live_until(P .. 'shares:' .. job, at)
  set_agenda(site)
end

-- As many jobs of ours as the site may hold, as far as that is known; how many it holds.
local function job_cap(site)
  local learnt = call('HMGET', P .. 'site:' .. site, 'job_cap', 'job_cap_until')
  local held = call('ZCARD', P .. 'jobs:' .. site)
  if not learnt[1] or tonumber(learnt[2] or 0) <= now then return INF, held, 0 end
  return tonumber(learnt[1]), held, tonumber(learnt[2]) - JOB_CAP_TTL_MS
end

-- How many jobs the site holds has changed, or how many it may hold. At most 100 lanes are armed anew, when it becomes short or ceases to be.
local function note_slots(site)
  local cap, held = job_cap(site)
  local changed
  if held >= SHORT * cap then
    changed = call('ZADD', P .. 'short', 'NX', text(now), site)
    call('PEXPIRE', P .. 'short', string.format('%.0f', JOB_CAP_TTL_MS))
  else
    changed = call('ZREM', P .. 'short', site)
  end
  if changed == 1 then
    for _, lane in ipairs(call('ZRANGE', P .. 'lanes:' .. site, 0, -1)) do rearm_lane(site, lane, false) end
  end
end

local function learn_job_cap(site, cap)
  call('HSET', P .. 'site:' .. site, 'job_cap', cap, 'job_cap_until', text(now + JOB_CAP_TTL_MS))
end

-- ESA says that the site is full: it holds as many jobs of ours as it may, those included that are not settled yet. O(batches in flight).
local function learn_full(site)
  local held = call('ZCARD', P .. 'jobs:' .. site)
  for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
    local b = call('HMGET', P .. 'batch:' .. id, 'site', 'job_id')
    if b[1] == site and b[2] then held = held + 1 end
  end
  learn_job_cap(site, held)
  note_slots(site)
end

-- A job was settled: it goes on record. `sent_at`: of its Create. Returns whether the site now holds as many as it
-- may, as ESA said within the last minute.
local function put_on_record(site, job, facts, owners, urls, sent_at)
  local state = facts.warmth or state_of_plan(facts)
  local at = facts.unplanned and now + JOB_CAP_MS or math.max(state == 'waiting' and facts.starts or facts.done, now + setting('list_lag_ms'))
  call('HSET', P .. 'job:' .. job, 'v', VERSION, 'site', site, 'batch', facts.batch, 'plan', facts.plan or '', 'urls', urls,
    'owners', owners, 'state', state, 'starts_at', text(facts.starts or now), 'done_at', text(facts.done or now), 'looks', 0)
  set_visit(site, job, at)
  live_until(P .. 'job:' .. job, math.max(at, facts.done or 0))
  if facts.warmth then call('HSET', P .. 'job:' .. job, 'bulk', 1) end
  count_warmth(owners, nil, state)
  local cap, held, learnt_at = job_cap(site)
  if held > cap then -- what was sent before ESA said so tells of the same cap, what was sent since of a higher one
    cap = sent_at <= learnt_at and held or held + 1 + math.floor(held * GROWTH)
    call('HSET', P .. 'site:' .. site, 'job_cap', cap)
  end
  note_slots(site)
  -- Once a minute it tries all the same: the jobs of others may have gone.
  local is_sure = now < learnt_at + JOB_CAP_MS
  return is_sure and held + tonumber(call('HGET', P .. 'site:' .. site, 'batches') or 0) >= cap
end

-- The job is followed no longer. When it `is_gone` a place is free: a site that waits for one goes on.
local function forget_job(site, job, is_gone)
  call('DEL', P .. 'job:' .. job, P .. 'shares:' .. job)
  call('ZREM', P .. 'jobs:' .. site, job)
  set_agenda(site)
  note_slots(site)
  if is_gone and call('HGET', P .. 'site:' .. site, 'wait_reason') == 'job_cap' then
    call('HDEL', P .. 'site:' .. site, 'wait_reason', 'wait_until')
  end
  rearm_site(site, false)
  arm_next()
end
