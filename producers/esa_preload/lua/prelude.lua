-- What every script of the ledger shares. Loaded in front of each of them; never run alone.
-- KEYS[1]: the namespace's prefix. ARGV[1]: now in ms, or '' for the server's own clock.
--
-- The ledger, a line a key (docs/reference/ledger.md says more):
--   meta                hash    version, wake (arq id of the armed wake-up), turn, seq, fingerprint, account block
--   settings            hash    what the workers published: batch limits, ages, bounds
--   sites               zset    site -> ms when it was first seen
--   site:<s>            hash    totals and state of a site
--   ring                zset    site -> ms from which it may be claimed: served sites go to the back
--   lanes:<s>           zset    lane -> ms at which it falls due
--   lane:<s>:<l>        hash    newest, bytes, floor, oldest, and weight of a lane that is one list in OSS
--   dropping            zset    '<s>:<l>' of lanes with URLs that nobody wants any more -> ms of the last walk; with an end -> that end
--   urls:<s>:<l>        hash    url -> '<band><accepted ms>:<owner>[,<owner>...]'
--   band:<s>:<l>:<b>    list    urls, oldest first; an entry whose url is gone or moved to another band is stale
--   request:<n>         hash    a request and its counts; request-id:<id> -> n; chunks:<n> hash number -> result
--   open, expiring      zset    n -> ms of the last chunk, n -> ms of expiry
--   active, active:<s>  zset    n -> n of requests with work left, and of a site; done, done:<s> likewise of the others
--   leaving             zset    '<n>:<s>' of a done request -> ms when its record goes
--   batch:<b>           hash    a claimed batch; leases zset b -> ms from which anybody may act on it
--   told:<b>            string  token and reply of the last settlement, for a client that lost the reply
--   bulk:<b>            list    packs of a batch whose URLs are a list in OSS: batches themselves, of up to 500 URLs
--   split:<b>           hash    what became of the parts of a batch that ESA refused as a whole; held:<b> list of those refused
--   parts:<s>           list    parts of split batches of a site, and bulk batches that are ready, which wait for their turn
--   rate:<op>           hash    what was learnt of an operation's limit, and its cooldown (gate.lua); 'endpoint' is the circuit
--   job:<j>             hash    a job of ours at ESA, what is known of its plan (jobs.lua); jobs:<s> zset j -> ms of the next look at it
--   shares:<j>          list    of a bulk batch: what ESA took of its packs, for whom
--   agenda              zset    site -> ms of the next look at one of its jobs; short zset sites that hold most of the jobs they may
--   lone:<s>            hash    url that ESA refused by itself -> ms of the first time
--   failures:<s>        stream  urls that ended as refused, unknown or expired
--   audit               stream  who enqueued, cancelled, paused, resumed and changed limits (audit.lua)
--   traffic:<t>         hash    calls of all workers, and URLs submitted, in the ten seconds from t on
--   site-ids            hash    name of a site of the account -> its id; site-names hash id -> name
--   queue               zset    arq's queue of wake-ups (and arq:job:<id>)
local P = KEYS[1]
local call = redis.call
local VERSION = 1
local RATE_VERSION = 2 -- of rate:<op>; records of the pace before it have none, and are begun afresh
local DUE = -1         -- their probe: the next call is one
local INF = math.huge
local BUCKET_MS = 10000 -- of traffic:<t>

local now
if ARGV[1] == '' then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(ARGV[1])
end

local settings_cache
local DEFAULTS = {
  batch_max_urls = 100, batch_max_bytes = 65536, batch_max_age_ms = 60000, batch_quiet_ms = 5000,
  max_pending_per_site = 1000000, max_lanes_per_site = 100, site_concurrency = 4, request_ttl_ms = 604800000,
  lease_ms = 10000, rate_initial = 5, rate_min = 0.1, rate_max = 100, failures_max = 10000, open_ttl_ms = 3600000,
  owners_max = 10000, list_lag_ms = 5000, bulk_min_urls = 0,
}
local function setting(name)
  if not settings_cache then
    settings_cache = {}
    local flat = call('HGETALL', P .. 'settings')
    for i = 1, #flat, 2 do settings_cache[flat[i]] = tonumber(flat[i + 1]) end
  end
  return settings_cache[name] or DEFAULTS[name]
end

-- unpack() holds 8,000 values at most: chunks of up to 1,000 URLs stay far below it.
local function batch_max_urls()
  local learnt = call('HMGET', P .. 'meta', 'size_limit', 'size_limit_until')
  local limit = tonumber(learnt[2] or 0) > now and tonumber(learnt[1]) or INF
  return math.max(1, math.min(setting('batch_max_urls'), limit))
end

local function text(number)
  return string.format('%.17g', number)
end

-- A number that grows within a millisecond, so that whoever was served goes behind all who wait. A double
-- holds 12 binary places behind a time in ms.
local TURN = 1 / 4096
local function turn()
  local last = tonumber(call('HGET', P .. 'meta', 'turn') or 0)
  local next_turn = (last >= now and last < now + 1) and math.min(last + TURN, now + 1 - TURN) or now
  call('HSET', P .. 'meta', 'turn', text(next_turn))
  return next_turn
end

-- Who waits keeps its place; who was just served goes to the back of those that are due.
local function set_due(key, member, due, served)
  local score = due
  if due < now + 1 then
    local old = call('ZSCORE', key, member)
    old = old and tonumber(old)
    if old and old < now + 1 and not served then return old end
    score = turn()
  end
  call('ZADD', key, text(score), member)
  return score
end

local function traffic_key(at)
  return P .. 'traffic:' .. string.format('%.0f', math.floor(at / BUCKET_MS) * BUCKET_MS / 1000)
end

local function parse_value(value)
  local band, at, owners = string.match(value, '^(%d)(%d+):(.*)$')
  return band, tonumber(at), owners
end

-- A lane of its own for a list that ESA reads itself: one entry, which stands for `weight` URLs.
local function is_list(lane)
  return string.sub(lane, 1, 4) == 'oss:'
end

-- When the window of a lane's plan ends: '<start>,<end>,<interval>,<slice>'.
local function window_end(lane)
  return tonumber(string.match(lane, '^[^,]*,(%d+),[^,]*,[^,]*$') or INF)
end

local function weight_of(site, lane)
  return is_list(lane) and tonumber(call('HGET', P .. 'lane:' .. site .. ':' .. lane, 'weight') or 0) or 1
end

-- A promotion, a return or a new owner may leave an older URL behind a younger one. From then until the lane is empty, `floor`
-- is not later than the time of any URL in it.
local function note_disorder(site, lane, at)
  local key = P .. 'lane:' .. site .. ':' .. lane
  local known = call('HMGET', key, 'floor', 'oldest')
  call('HSET', key, 'floor', text(math.min(at, tonumber(known[1] or INF), tonumber(known[2] or INF))))
end

-- The time of the URL that is first in its band and oldest; drops stale entries from the heads, a bounded number a call.
local function oldest_of(site, lane)
  local id = site .. ':' .. lane
  local urls = P .. 'urls:' .. id
  local oldest, drop_at_most = INF, 1000
  for b = 0, 2 do
    local list = P .. 'band:' .. id .. ':' .. b
    while drop_at_most > 0 do
      local url = call('LINDEX', list, 0)
      if not url then break end
      local value = call('HGET', urls, url)
      if value then
        local band, at = parse_value(value)
        if tonumber(band) == b then
          oldest = math.min(oldest, at)
          break
        end
      end
      call('LPOP', list)
      drop_at_most = drop_at_most - 1
    end
  end
  return oldest
end

local function forget_lane(site, lane)
  local id = site .. ':' .. lane
  call('ZREM', P .. 'lanes:' .. site, lane)
  call('ZREM', P .. 'dropping', id)
  call('UNLINK', P .. 'lane:' .. id, P .. 'band:' .. id .. ':0', P .. 'band:' .. id .. ':1', P .. 'band:' .. id .. ':2')
end

-- What a lane's turn depends on, but for the settings; `oldest` as it was when the lane was armed.
local function read_lane(site, lane)
  local id = site .. ':' .. lane
  local r = call('HMGET', P .. 'lane:' .. id, 'newest', 'bytes', 'floor', 'oldest')
  return {
    name = lane, count = call('HLEN', P .. 'urls:' .. id), newest = tonumber(r[1]), bytes = tonumber(r[2] or 0),
    floor = tonumber(r[3] or INF), oldest = tonumber(r[4] or INF), is_short = call('ZSCORE', P .. 'short', site) and true,
  }
end

-- When a lane falls due, and why then: 'list' (in OSS: always), 'full', 'bytes', 'age', 'quiet', or 'short' (by its age alone, on a site
-- that holds most of the jobs it may). A window that ends soon makes it old: no URL misses it by waiting for more. Changes nothing.
local function lane_turn(lane)
  if is_list(lane.name) then return now, 'list' end
  if lane.count >= batch_max_urls() then return now, 'full' end
  if lane.bytes >= setting('batch_max_bytes') then return now, 'bytes' end
  local oldest = math.min(lane.oldest, lane.floor)
  local most = setting('batch_max_age_ms')
  local old, quiet = math.min(oldest + most, window_end(lane.name) - most), (lane.newest or oldest) + setting('batch_quiet_ms')
  if old <= quiet then return old, 'age' end
  if lane.is_short then return old, 'short' end
  return quiet, 'quiet'
end

-- Put the lane where it belongs among the site's lanes.
local function rearm_lane(site, name, served)
  local lane = read_lane(site, name)
  if lane.count == 0 then return forget_lane(site, name) end
  lane.oldest = oldest_of(site, name)
  if lane.oldest == INF then lane.oldest = lane.floor end
  call('HSET', P .. 'lane:' .. site .. ':' .. name, 'oldest', text(lane.oldest))
  set_due(P .. 'lanes:' .. site, name, lane_turn(lane), served)
  local ends = window_end(name)
  if ends < INF then call('ZADD', P .. 'dropping', 'NX', text(ends), site .. ':' .. name) end
end

-- When a site may be claimed, why then, and by which lane: 'parts' (of split batches, before its lanes), 'lane' or 'waits' (its
-- wait_until). Or nil, and why not: 'empty', 'paused', 'busy' (as many batches at work as it may have) or 'job_cap' (as many as it has
-- places for jobs: a free place must not cost a call of each). Changes nothing.
local function site_turn(site)
  local state = call('HMGET', P .. 'site:' .. site, 'paused', 'wait_until', 'batches', 'blocked_code', 'job_cap', 'job_cap_until')
  local slots = state[4] and 1 or setting('site_concurrency') -- a blocked site is probed by one batch at a time
  local full = 'busy'
  if state[5] and tonumber(state[6] or 0) > now then
    local places = math.max(1, tonumber(state[5]) - call('ZCARD', P .. 'jobs:' .. site))
    if places < slots then slots, full = places, 'job_cap' end
  end
  local at, why, lane = now, 'parts', nil
  if call('EXISTS', P .. 'parts:' .. site) == 0 then
    local first = call('ZRANGE', P .. 'lanes:' .. site, 0, 0, 'WITHSCORES')
    at, why, lane = tonumber(first[2]), 'lane', first[1]
  end
  if not at then return nil, 'empty' end
  if state[1] then return nil, 'paused', lane end
  if tonumber(state[3] or 0) >= slots then return nil, full, lane end
  local waits = tonumber(state[2] or 0)
  if waits > at and waits > now then why = 'waits' end
  return math.max(at, waits), why, lane
end

-- Put the site where it belongs in the ring. Returns when it can be claimed, or nil.
local function rearm_site(site, served)
  local at = site_turn(site)
  if not at then
    call('ZREM', P .. 'ring', site)
    return nil
  end
  return set_due(P .. 'ring', site, at, served)
end

-- Make sure that a worker wakes up at `at`, with arq's own two keys. One job is enough: whoever it wakes arms the next. While
-- no worker has begun it, it counts, and is moved to an earlier moment where needed; a begun one stays in the queue until it
-- ends, but may have looked already. Returns whether anything was written.
local WAKE_TTL_MS = 30 * 86400000
local function arm(at)
  at = math.max(math.floor(at), now)
  local id = call('HGET', P .. 'meta', 'wake')
  local armed = id and call('ZSCORE', P .. 'queue', id)
  if armed and call('EXISTS', 'arq:in-progress:' .. id) == 0 then
    if tonumber(armed) <= at then return false end
  else
    id = string.format('%s%.0f-%d', P, now, call('HINCRBY', P .. 'meta', 'seq', 1))
    local job = string.format('{"t":null,"f":"wake","a":[],"k":{},"et":%.0f}', now)
    call('SET', 'arq:job:' .. id, job, 'PX', string.format('%.0f', at - now + WAKE_TTL_MS))
    call('HSET', P .. 'meta', 'wake', id)
  end
  call('ZADD', P .. 'queue', text(at), id)
  return true
end

local function add(counts, key, by)
  counts[key] = (counts[key] or 0) + by
end

-- A key that goes by itself: REQUEST_TTL after `at`, or later.
local function live_until(key, at)
  local ms = string.format('%.0f', at - now + setting('request_ttl_ms'))
  for _, unless in ipairs({ 'NX', 'GT' }) do call('PEXPIRE', key, ms, unless) end
end

-- The index of requests: over all and of a site, those with work left and those that are done, in the order of their numbers.
local function list_request(owner, site, state)
  for _, key in ipairs({ P .. state, P .. state .. ':' .. site }) do call('ZADD', key, owner, owner) end
end

local function unlist_request(owner, site, state)
  call('ZREM', P .. state, owner)
  call('ZREM', P .. state .. ':' .. site, owner)
end

-- The record of a done request stays for REQUEST_TTL from now on; a sweep takes it out of the index then.
local function leave_later(owner, site)
  call('ZADD', P .. 'leaving', text(now + setting('request_ttl_ms')), owner .. ':' .. site)
  for _, key in ipairs({ P .. 'leaving', P .. 'done', P .. 'done:' .. site }) do live_until(key, now) end
end

-- Add to a request's counts; `ends` once nothing of a sealed one is left.
local function account(owner, changes)
  local key = P .. 'request:' .. owner
  if call('EXISTS', key) == 0 then return end
  for field, by in pairs(changes) do
    if by ~= 0 then call('HINCRBY', key, field, by) end
  end
  local r = call('HMGET', key, 'sealed', 'pending', 'in_flight', 'id', 'done_at', 'lists', 'site')
  if r[1] and tonumber(r[2] or 0) == 0 and tonumber(r[3] or 0) == 0 and tonumber(r[6] or 0) == 0 then
    if not r[5] then
      call('HSET', key, 'done_at', text(now))
      unlist_request(owner, r[7], 'active')
      list_request(owner, r[7], 'done')
    end
    leave_later(owner, r[7])
    local ttl = string.format('%.0f', setting('request_ttl_ms'))
    call('PEXPIRE', key, ttl)
    call('PEXPIRE', P .. 'chunks:' .. owner, ttl)
    call('PEXPIRE', P .. 'request-id:' .. r[4], ttl)
    call('ZREM', P .. 'open', owner)
    call('ZREM', P .. 'expiring', owner)
  end
end

local function account_site(site, changes)
  for field, by in pairs(changes) do
    if by ~= 0 then call('HINCRBY', P .. 'site:' .. site, field, by) end
  end
end

-- A lane holds URLs that perhaps nobody wants any more: sweeps walk over it, from its start once more when they are at it already.
local function note_unwanted(site, lane)
  local id = site .. ':' .. lane
  call('ZADD', P .. 'dropping', 'LT', text(now), id)
  if call('HEXISTS', P .. 'lane:' .. id, 'drop_cursor') == 1 then call('HSET', P .. 'lane:' .. id, 'drop_again', 1) end
end

-- End what a request has pending; what is in flight goes on. Claims and sweeps drop its URLs when they meet them. Returns the
-- URLs ended.
local function end_owner(owner, how)
  local key = P .. 'request:' .. owner
  local r = call('HMGET', key, 'pending', 'site', 'lane', 'lists')
  local pending = tonumber(r[1] or 0)
  call('ZREM', P .. 'expiring', owner)
  call('ZREM', P .. 'open', owner)
  call('HSET', key, 'ended', how, 'sealed', call('HLEN', P .. 'chunks:' .. owner))
  if pending > 0 or tonumber(r[4] or 0) > 0 then note_unwanted(r[2], r[3]) end
  if how == 'expired' and pending > 0 then -- the next sweep reports them
    call('HINCRBY', P .. 'meta', 'expired:' .. r[2], pending)
  end
  account(owner, { pending = -pending, [how] = pending })
  return pending
end

-- How a request ended, or false while its URLs are wanted; looked up once a script. One whose time is over ends here, should the
-- sweep be late.
local ended_cache = {}
local function ended(owner)
  local state = ended_cache[owner]
  if state == nil then
    local r = call('HMGET', P .. 'request:' .. owner, 'v', 'ended', 'expires_at', 'done_at')
    if not r[1] then
      state = 'cancelled' -- its record has gone: it ended REQUEST_TTL ago, and left this behind
    elseif not r[2] and not r[4] and tonumber(r[3] or INF) <= now and tonumber(r[1]) <= VERSION then
      end_owner(owner, 'expired')
      state = 'expired'
    else
      state = r[2]
    end
    ended_cache[owner] = state
  end
  return state
end

-- Who of `owners` still wants the URL: all, live (as lists), text (the live ones as they are stored), late (all but those who cancelled, likewise),
-- and how it ends when none is live: as expired when time took it from anybody. Most URLs of a batch have the same owners, so each list is read once a script.
local owners_cache = {}
local function read_owners(owners)
  local found = owners_cache[owners]
  if not found then
    local late = {}
    found = { all = {}, live = {} }
    for owner in string.gmatch(owners, '%d+') do
      local how = ended(owner)
      found.all[#found.all + 1] = owner
      if how ~= 'cancelled' then late[#late + 1] = owner end
      if not how then
        found.live[#found.live + 1] = owner
      elseif found.how ~= 'expired' then
        found.how = how
      end
    end
    found.text, found.late = table.concat(found.live, ','), table.concat(late, ',')
    owners_cache[owners] = found
  end
  return found
end

-- As many of a URL's owners as are named beside it when it fails: the first ones.
local OWNERS_BYTES = 1000
local function first_owners(owners)
  if #owners <= OWNERS_BYTES then return owners end
  return string.match(string.sub(owners, 1, OWNERS_BYTES + 1), '^(.*),')
end

-- What did not get through, by name, for people and for `requeue`; `owners`: for whom it ended so.
local failures_kept = {}
local function note_failure(site, lane, url, state, reason, code, batch, owners)
  local key = P .. 'failures:' .. site
  call('XADD', key, 'MAXLEN', '~', setting('failures_max'), '*', 'url', url, 'state', state, 'reason', reason or '',
    'code', code or '', 'at', text(now), 'batch', batch, 'lane', lane, 'owners', first_owners(owners))
  if failures_kept[key] then return end
  failures_kept[key] = true
  call('PEXPIRE', key, string.format('%.0f', setting('request_ttl_ms')))
end

-- A URL that nobody wants any more, or whose window has passed, has left its lane: add to `sums` how its work ended. Who still wanted it
-- is told by account_passed.
local passed = {}
local function drop(site, lane, url, owners, weight, sums)
  local found = read_owners(owners)
  local how, reason = found.how, found.how
  if #found.live > 0 then
    how, reason = 'expired', 'window_passed'
    for _, owner in ipairs(found.live) do add(passed, owner, weight) end
  end
  add(sums, how, weight)
  if is_list(lane) then account(owners, { lists = -1 }) end
  if how == 'expired' then note_failure(site, lane, url, how, reason, '', '', found.late) end
end

local function account_passed(site)
  for owner, n in pairs(passed) do
    account(owner, { pending = -n, expired = n })
    call('HINCRBY', P .. 'meta', 'expired:' .. site, n) -- the next sweep reports them
  end
  passed = {}
end

local function readable(version, what)
  if tonumber(version or VERSION) > VERSION then
    return redis.error_reply('UNSUPPORTED ' .. what .. ' has version ' .. version .. ', this release reads ' .. VERSION)
  end
end
