#!lua flags=allow-oom
-- End a claim: account every URL of the batch to every owner, or put it back, or put it off.
-- ARGV: 2 batch, 3 token, 4 what:
--         'end'    each URL ends by `verdict`, but for the exceptions
--         'defer'  the batch stays; anybody may act on it `delay_ms` from now, in state `state`
--         'split'  the batch becomes two halves, each to be sent by itself
--         'hold'   ESA refused this single URL of a split batch; judged when the last part of it has ended
--         'pack'   `pack` of this bulk batch ends as above, all by itself: nothing else is looked at but `returning` (the bulk will never
--                  be a job: its state) and `watch`. The batch itself ends when no pack is left
--       5 JSON: verdict ('submitted', 'refused', 'unknown', 'expired', 'pending'), reason, code, exceptions [[index from 1, verdict,
--         reason, code]...], ends {verdict: urls} for a list in OSS, failed [[url, reason, code]...] of it, state, delay_ms, children [id, id], and what the calls showed:
--         calls [[operation, sent, outcome, hint in ms]...] (rate.lua), planned, site_wait {reason, ms, grows}, site_ok,
--         block {scope, code, hint, probe_ms}, lone (the block is for a URL that ESA refused by itself), size_limit,
--         over_quota (the quota refused all of it), bulk_limit {urls, ms} (bulk batches of the site have so many URLs at most), lines (of
--         the list, once it is ready), roll (0 to 1),
--         watch {job, plan, starts, done in ms} of a job that has its plan, kept [job...] that will have none (jobs.lua).
-- Returns: {'ok', site resumed 0 or 1, account resumed 0 or 1, a wait or block began 0 or 1 (0: it goes on), wait until ms or 0,
--   verdict, urls, verdict, urls, ...} | {'lost'}. Safe to repeat: the same claim is told the same again for half a minute. O(batch).
local id, token, what, facts = ARGV[2], ARGV[3], ARGV[4], cjson.decode(ARGV[5])
local batch_key = P .. 'batch:' .. id
local told_key = P .. 'told:' .. (what == 'pack' and facts.pack or id)
local TOLD_MS = 30000 -- a client repeats a command whose reply was lost within a few seconds
local BATCH = { 'site', 'lane', 'count', 'owners', 'members', 'root', 'token', 'state', 'oldest_at', 'job_id', 'sent_at', 'bulk',
  'submitted', 'warmth' }

local function read_batch(batch)
  local values, b = call('HMGET', P .. 'batch:' .. batch, unpack(BATCH)), { id = batch }
  for i, field in ipairs(BATCH) do b[field] = values[i] end
  b.count = tonumber(b.count or 0)
  return b
end

-- What the same claim was told when it ended, or else that it is lost.
local function told_before()
  local told = call('GET', told_key)
  local said = told and string.sub(told, 1, #token + 1) == token .. ' ' and string.sub(told, #token + 2)
  return said and cjson.decode(said) or { 'lost' }
end

local mine = read_batch(id)
if mine.token ~= token then return told_before() end
local pack = what == 'pack' and read_batch(facts.pack)
if pack and pack.bulk ~= id then return told_before() end
local site, site_key = mine.site, P .. 'site:' .. mine.site
local totals, waits_until, submitted = {}, 0, {}
if what == 'hold' or ((what == 'end' or what == 'pack') and (facts.verdict ~= 'submitted' or facts.exceptions)) then -- it may go back to its lane
  local version = call('HGET', P .. 'lane:' .. site .. ':' .. mine.lane, 'v')
  local unreadable = readable(version, 'lane ' .. mine.lane .. ' of site ' .. site)
  if unreadable then return unreadable end
end
if what == 'end' and call('EXISTS', P .. 'bulk:' .. id) == 1 then return redis.error_reply('PACKS of batch ' .. id .. ' have not ended') end
local account_resumed = what == 'pack' and 0 or call('HDEL', batch_key, 'ended_block')

local function each_member(b, visit)
  local i = 0
  for url, value in string.gmatch(b.members, '([^\n ]+) ([^\n]+)') do
    i = i + 1
    visit(i, url, value)
  end
end

-- Whether a pending URL is wanted, or will be named as expired when it is dropped.
local function is_looked_after(value)
  local _, _, owners = parse_value(value)
  local found = read_owners(owners)
  return #found.live > 0 or found.how == 'expired'
end

-- Back to the head of its band, merged with what came since. Owners who left end here.
local function put_back(b, entries)
  local lane_id = site .. ':' .. b.lane
  local urls_key = P .. 'urls:' .. lane_id
  local changes, fields, heads, raw, sums = {}, {}, { [0] = {}, {}, {} }, 0, {}
  local weight, oldest = is_list(b.lane) and b.count or 1, INF
  local function change(owner, field, by)
    changes[owner] = changes[owner] or {}
    add(changes[owner], field, by)
  end
  for i = #entries, 1, -1 do
    local url, value = entries[i][1], entries[i][2]
    local band, at, owners = parse_value(value)
    local found = read_owners(owners)
    owners = found.text
    for _, owner in ipairs(found.all) do
      local how = ended(owner)
      change(owner, 'in_flight', -weight)
      change(owner, how or 'pending', weight)
      if how == 'expired' then call('HINCRBY', P .. 'meta', 'expired:' .. site, weight) end -- the next sweep reports them
      if how and is_list(b.lane) then change(owner, 'lists', -1) end
    end
    local there = call('HGET', urls_key, url)
    if #found.live == 0 then
      add(sums, found.how, weight)
      if found.how == 'expired' and not (there and is_looked_after(there)) then
        note_failure(site, b.lane, url, 'expired', 'expired', '', '', found.late)
      end
    else
      if there then
        local there_band, there_at, there_owners = parse_value(there)
        band, at = math.min(tonumber(band), tonumber(there_band)), math.min(at, there_at)
        local known = {}
        for _, owner in ipairs(found.live) do known[owner] = true end
        for _, owner in ipairs(read_owners(there_owners).all) do
          if known[owner] then -- the same request asked again while this was in flight: one of them is a repeat
            change(owner, 'pending', -1)
            change(owner, 'accepted', -1)
            change(owner, 'duplicates', 1)
          else
            owners = owners .. ',' .. owner
          end
        end
        add(sums, 'merged', 1)
      else
        add(sums, 'pending', weight)
        raw = raw + #url
      end
      oldest = math.min(oldest, at)
      fields[#fields + 1] = url
      fields[#fields + 1] = band .. string.format('%.0f', at) .. ':' .. owners
      local head = heads[tonumber(band)]
      head[#head + 1] = url
    end
  end
  if #fields > 0 then
    call('HSET', urls_key, unpack(fields))
    call('HSETNX', P .. 'lane:' .. lane_id, 'v', VERSION)
    if is_list(b.lane) then call('HSET', P .. 'lane:' .. lane_id, 'weight', weight) end
    if raw > 0 then call('HINCRBY', P .. 'lane:' .. lane_id, 'bytes', raw) end
    for b_ = 0, 2 do
      if #heads[b_] > 0 then call('LPUSH', P .. 'band:' .. lane_id .. ':' .. b_, unpack(heads[b_])) end
    end
  end
  if oldest < INF then note_disorder(site, b.lane, oldest) end
  for owner, by in pairs(changes) do account(owner, by) end
  account_site(site, sums)
  return #entries * weight
end

-- Nobody works at it any more: its place among the site's batches is free. A held one has none, nor has a pack.
local function let_go(b)
  if b.state == 'held' or b.state == 'packed' then return end
  call('ZREM', P .. 'leases', b.id)
  account_site(site, { batches = -1 })
end

local function forget(b)
  call('DEL', P .. 'batch:' .. b.id)
  account_site(site, { in_flight = -b.count })
  let_go(b)
end

-- A list in OSS ends by numbers; ESA's own count replaces the producer's.
local function end_list(b, ends)
  local owner = string.match(b.owners, '^%d+')
  if ends.submitted then submitted[owner] = ends.submitted end
  local changes, sums, all = { in_flight = -b.count, lists = -1 }, {}, 0
  for verdict, n in pairs(ends) do
    changes[verdict] = n
    sums[verdict] = n
    all = all + n
    add(totals, verdict, n)
  end
  changes.accepted = all - b.count
  sums.accepted = all - b.count
  account(owner, changes)
  account_site(site, sums)
  local failed = facts.failed or {}
  for _, f in ipairs(failed) do note_failure(site, b.lane, f[1], 'refused', f[2], f[3], b.id, owner) end
  local bad = (ends.refused and 'refused') or (ends.unknown and 'unknown')
  local list_url = string.match(b.members, '^[^ ]+')
  if bad and #failed == 0 then note_failure(site, b.lane, list_url, bad, facts.reason, facts.code, b.id, owner) end
  if ends.expired then note_failure(site, b.lane, list_url, 'expired', facts.reason, '', '', owner) end
end

local function end_batch(b, verdict, reason, code, exceptions)
  local special = {}
  for _, e in ipairs(exceptions or {}) do special[e[1]] = e end
  if is_list(b.lane) and verdict ~= 'pending' then
    end_list(b, facts.ends or { [verdict] = math.max(1, b.count) }) -- one that nobody counted is not nothing
  elseif verdict == 'submitted' and next(special) == nil then -- the usual end needs no look at the single URLs
    for owner, n in string.gmatch(b.owners, '(%d+):(%d+)') do
      account(owner, { in_flight = -tonumber(n), submitted = tonumber(n) })
      submitted[owner] = tonumber(n)
    end
    add(totals, 'submitted', b.count)
    account_site(site, { submitted = b.count })
  else
    local changes, sums, back = {}, {}, {}
    each_member(b, function(i, url, value)
      local e = special[i] or { i, verdict, reason, code }
      if e[2] == 'pending' then
        back[#back + 1] = { url, value }
        return
      end
      local _, _, owners = parse_value(value)
      for owner in string.gmatch(owners, '%d+') do
        changes[owner] = changes[owner] or {}
        add(changes[owner], 'in_flight', -1)
        add(changes[owner], e[2], 1)
        if e[2] == 'submitted' then add(submitted, owner, 1) end
      end
      add(sums, e[2], 1)
      if e[2] ~= 'submitted' then note_failure(site, b.lane, url, e[2], e[3], e[4], e[2] == 'expired' and '' or b.bulk or b.id, owners) end
    end)
    for owner, by in pairs(changes) do account(owner, by) end
    account_site(site, sums)
    for verdict_, n in pairs(sums) do add(totals, verdict_, n) end
    if #back > 0 then
      add(totals, 'pending', put_back(b, back))
      rearm_lane(site, b.lane, false)
    end
  end
  forget(b)
end

-- A URL that ESA refuses by itself: whether it did so before, and took a batch that was sent since. Then the URL is at fault and
-- not the request. Else that is noted: its site is blocked.
local LONE_MS, LONE_MAX = 86400000, 1000
local lone_key = P .. 'lone:' .. site
local function is_at_fault(url)
  local first = call('HGET', lone_key, url)
  if first and tonumber(call('HGET', site_key, 'good_at') or 0) > tonumber(first) then
    call('HDEL', lone_key, url)
    return true
  end
  if not first and call('HLEN', lone_key) < LONE_MAX then
    call('HSET', lone_key, url, text(now))
    call('PEXPIRE', lone_key, text(LONE_MS), 'NX')
  end
  return false
end

-- Requests are good as of this batch, and so are its URLs.
local function note_good(b)
  local sent_at, known = tonumber(b.sent_at or 0), call('HMGET', site_key, 'good_at', 'quota_batch')
  if sent_at > tonumber(known[1] or 0) then call('HSET', site_key, 'good_at', text(sent_at)) end
  if known[2] and b.count >= tonumber(known[2]) then
    local larger = 2 * tonumber(known[2])
    if larger < batch_max_urls() then
      call('HSET', site_key, 'quota_batch', larger)
    else
      call('HDEL', site_key, 'quota_batch')
    end
  end
  if call('EXISTS', lone_key) == 1 then
    each_member(b, function(_, url) call('HDEL', lone_key, url) end)
  end
end

-- What is left of a quota may be less than a batch, and a whole batch be refused for it: the next ones are half as large, and twice as
-- large again with each of that size that gets through (note_good). Once a wait, however many were under way when it began.
local function note_over_quota(b)
  local known = call('HMGET', site_key, 'quota_batch', 'wait_reason', 'wait_until')
  local waited = known[2] == 'quota' and tonumber(known[3] or 0) or 0
  if is_list(b.lane) or b.count < 2 or tonumber(b.sent_at or 0) < waited then return end
  call('HSET', site_key, 'quota_batch', math.max(1, math.floor(math.min(b.count, tonumber(known[1] or INF)) / 2)))
end

-- One part of a split batch has ended: when it was the last, judge those that were held.
local function part_ended(root, has_passed)
  local key, held_key = P .. 'split:' .. root, P .. 'held:' .. root
  if has_passed then call('HINCRBY', key, 'good', 1) end
  if call('HINCRBY', key, 'live', -1) > 0 then return end
  local some_passed = tonumber(call('HGET', key, 'good') or 0) > 0
  local parts = call('LRANGE', held_key, 0, -1)
  for i = #parts, 1, -1 do -- the last one first: each goes to the head of its band
    local held = parts[i]
    local b = read_batch(held)
    local why = call('HMGET', P .. 'batch:' .. held, 'reason', 'code', 'hint')
    if some_passed or is_at_fault(string.match(b.members, '^[^ ]+')) then
      end_batch(b, 'refused', why[1], why[2])
    else -- not one URL got through: the request may be at fault, not the URLs
      end_batch(b, 'pending')
      facts.block = facts.block or { scope = 'site', code = why[2], hint = why[3], probe_ms = facts.probe_ms or 60000 }
    end
  end
  call('DEL', key, held_key)
end

-- 'ready' (nothing was sent) waits for the site's next turn, whatever delays that; other states are looked after in `delay` ms.
local function put_off(b, state, delay)
  if b.job_id then state = 'created' end -- a job on record is never forgotten
  if b.state == 'returning' or (b.state == 'gathering' and state ~= 'ready') then state = b.state end -- nothing was sent, or is any more
  call('HSET', P .. 'batch:' .. b.id, 'token', '', 'state', state)
  if state == 'ready' then
    let_go(b)
    call('LPUSH', P .. 'parts:' .. site, b.id)
  else
    call('ZADD', P .. 'leases', text(now + delay), b.id)
  end
end

-- A pack of this bulk batch ends. What ESA has taken of it is kept as a share of the job.
local function end_pack()
  if facts.returning then call('HSET', batch_key, 'state', 'returning') end
  end_batch(pack, facts.verdict, facts.reason, facts.code, facts.exceptions)
  call('LREM', P .. 'bulk:' .. id, 1, pack.id)
  if facts.exceptions then call('HINCRBY', batch_key, 'exempted', #facts.exceptions) end
  if totals.submitted then call('HINCRBY', batch_key, 'submitted', totals.submitted) end
  if facts.watch and totals.submitted then
    local warmth = mine.warmth or state_of_plan(facts.watch)
    if not mine.warmth then call('HSET', batch_key, 'warmth', warmth) end
    keep_share(facts.watch, submitted, warmth)
  end
end

local function tell(...)
  if totals.submitted then count_traffic('urls', totals.submitted) end
  local out = { 'ok', ... }
  for verdict, n in pairs(totals) do
    out[#out + 1] = verdict
    out[#out + 1] = n
  end
  call('SET', told_key, token .. ' ' .. cjson.encode(out), 'PX', TOLD_MS)
  return out
end

if pack then
  end_pack()
  rearm_site(site, false)
  arm_next()
  return tell(0, 0, 0, '0')
end

local SIZE_LIMIT_MS = 3600000
local roll = facts.roll or 0.5
for _, c in ipairs(facts.calls or {}) do waits_until = math.max(waits_until, report(c[1], c[2], c[3], c[4])) end
if facts.size_limit and facts.size_limit < batch_max_urls() then
  -- For an hour: it may have been about those URLs, and nothing else would ever raise it again.
  call('HSET', P .. 'meta', 'size_limit', facts.size_limit, 'size_limit_until', text(now + SIZE_LIMIT_MS))
end

if facts.bulk_limit then
  call('HSET', site_key, 'bulk_limit', facts.bulk_limit.urls, 'bulk_limit_until', text(now + facts.bulk_limit.ms))
end
if facts.lines then call('HSET', batch_key, 'lines', facts.lines) end

if facts.site_ok then note_good(mine) end
if facts.over_quota then note_over_quota(mine) end
if facts.lone and is_at_fault(string.match(mine.members, '^[^ ]+')) then facts.verdict, facts.block = 'refused', nil end

if what == 'defer' then
  put_off(mine, facts.state, math.max(facts.delay_ms, waits_until - now))
elseif what == 'split' then
  local root = mine.root or id
  local split_key = P .. 'split:' .. root
  if mine.root then
    call('HINCRBY', split_key, 'live', 1)
  else
    call('HSET', split_key, 'live', 2)
  end
  local half = math.ceil(mine.count / 2)
  local parts = { { members = {}, counts = {} }, { members = {}, counts = {} } }
  each_member(mine, function(i, url, value)
    local part = parts[i <= half and 1 or 2]
    part.members[#part.members + 1] = url .. ' ' .. value
    local _, _, owners = parse_value(value)
    for owner in string.gmatch(owners, '%d+') do
      add(part.counts, owner, 1)
    end
  end)
  for i, part in ipairs(parts) do
    local owners = {}
    for owner, n in pairs(part.counts) do owners[#owners + 1] = owner .. ':' .. n end
    local child = facts.children[i]
    call('HSET', P .. 'batch:' .. child, 'v', VERSION, 'site', site, 'lane', mine.lane, 'state', 'ready', 'token', '',
      'attempt', 0, 'count', #part.members, 'oldest_at', mine.oldest_at, 'claimed_at', text(now), 'root', root,
      'owners', table.concat(owners, ' '), 'members', table.concat(part.members, '\n'))
    call('RPUSH', P .. 'parts:' .. site, child)
    account_site(site, { in_flight = #part.members })
  end
  forget(mine)
elseif what == 'hold' then
  call('HSET', batch_key, 'state', 'held', 'token', '', 'reason', facts.reason or '', 'code', facts.code or '',
    'hint', facts.hint or '')
  let_go(mine)
  call('RPUSH', P .. 'held:' .. mine.root, id)
  part_ended(mine.root, false)
else
  end_batch(mine, facts.verdict, facts.reason, facts.code, facts.exceptions)
  if mine.root then part_ended(mine.root, mine.job_id or facts.verdict == 'submitted') end
end

-- Whoever got as far as a plan shows that the account is not blocked, even where no job had to be made.
if facts.planned then
  account_resumed = math.min(1, account_resumed + call('HDEL', P .. 'meta', 'blocked_until', 'blocked_code', 'blocked_hint'))
end

-- Never shortened: the longest wait stands, and says why.
local function wait_site(at, reason)
  waits_until = math.max(at, tonumber(call('HGET', site_key, 'wait_until') or 0))
  if waits_until == at then call('HSET', site_key, 'wait_until', text(at), 'wait_reason', reason) end
end

local resumed, began = 0, 0
if facts.block then
  local known = facts.block.scope == 'account' and call('HGET', P .. 'meta', 'blocked_code')
    or facts.block.scope == 'site' and call('HGET', site_key, 'blocked_code')
  if known ~= facts.block.code then began = 1 end
elseif facts.site_wait and call('HGET', site_key, 'wait_reason') ~= facts.site_wait.reason then
  began = 1
end
if facts.block and facts.block.scope == 'account' then
  local before = tonumber(call('HGET', P .. 'meta', 'blocked_until') or 0)
  waits_until = math.max(now + facts.block.probe_ms, before)
  call('HSET', P .. 'meta', 'blocked_until', text(waits_until), 'blocked_code', facts.block.code, 'blocked_hint', facts.block.hint or '')
elseif facts.block then
  call('HSET', site_key, 'blocked_code', facts.block.code, 'blocked_hint', facts.block.hint or '')
  wait_site(now + facts.block.probe_ms, 'blocked')
elseif facts.site_wait then
  local ms = facts.site_wait.ms
  if facts.site_wait.reason == 'job_cap' then learn_full(site) end
  if facts.site_wait.grows then
    local state = call('HMGET', site_key, 'strikes', 'wait_until')
    local strikes = tonumber(state[1] or 0)
    if now >= tonumber(state[2] or 0) then strikes = call('HINCRBY', site_key, 'strikes', 1) end -- one an episode
    ms = math.min(60000, ms * 2 ^ math.max(0, math.min(strikes - 1, 10))) * (0.5 + roll / 2)
  end
  wait_site(now + ms, facts.site_wait.reason)
elseif facts.site_ok then
  resumed = call('HDEL', site_key, 'blocked_code')
  call('HDEL', site_key, 'blocked_hint', 'strikes')
  local wait = call('HMGET', site_key, 'wait_reason', 'wait_until')
  if wait[1] and (wait[1] ~= 'quota' or tonumber(wait[2]) <= now) then call('HDEL', site_key, 'wait_reason', 'wait_until') end
end

-- After the waits above, which a success ends.
local is_full = false
-- Packs of it were submitted, and the plan is gone: the visit that finds that out tells their requests.
if what == 'end' and mine.warmth then facts.watch = facts.watch or { job = mine.job_id, starts = now, done = now } end
if facts.watch then
  facts.watch.batch, facts.watch.warmth = id, mine.warmth
  local urls = tonumber(mine.submitted or 0) + (totals.submitted or 0)
  is_full = put_on_record(site, facts.watch.job, facts.watch, owners_text(submitted), urls, tonumber(mine.sent_at or 0))
end
for _, job in ipairs(facts.kept or {}) do
  is_full = put_on_record(site, job, { unplanned = true, batch = id }, '', 0, tonumber(mine.sent_at or 0))
end
if is_full then wait_site(now + JOB_CAP_MS, 'job_cap') end
rearm_site(site, false)
arm_next()

return tell(resumed, account_resumed, began, text(waits_until))
