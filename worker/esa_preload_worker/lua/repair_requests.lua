#!lua flags=allow-oom
-- Make what is derived of some requests agree with their records: indexes, TTLs, the way from id to number. Counts and state are
-- left alone. ARGV: 2... pairs of a request's number and the site of whose lists it is to go when there is no such request, or ''. Returns: what was done, as sentences. Idempotent. O(requests).
local done = {}
local function did(...)
  done[#done + 1] = string.format(...)
end

local function mend_index(name, n, score)
  local is = call('ZSCORE', P .. name, n)
  if is and not score then
    call('ZREM', P .. name, n)
    did('took request %s out of %s', n, name)
  elseif score and (not is or (name == 'expiring' and tonumber(is) ~= score)) then
    call('ZADD', P .. name, text(score), n)
    did('put request %s into %s', n, name)
  end
end

-- `right`: 'active', 'done', or nil for a request that is gone.
local function mend_lists(n, site, right)
  for _, state in ipairs({ 'active', 'done' }) do
    for _, name in ipairs({ state, state .. ':' .. site }) do mend_index(name, n, state == right and tonumber(n) or nil) end
  end
  local leaving = n .. ':' .. site
  if right ~= 'done' then return mend_index('leaving', leaving, nil) end
  if not call('ZSCORE', P .. 'leaving', leaving) then did('put request %s into leaving', n) end
  leave_later(n, site)
end

for i = 2, #ARGV, 2 do
  local n = ARGV[i]
  local key, chunks = P .. 'request:' .. n, P .. 'chunks:' .. n
  local r = call('HMGET', key, 'v', 'id', 'sealed', 'ended', 'expires_at', 'pending', 'in_flight', 'lists', 'site')
  if tonumber(r[1] or VERSION) > VERSION then
    did('left request %s alone: it has version %s', n, r[1])
  elseif call('EXISTS', key) == 0 then
    mend_index('open', n, nil)
    mend_index('expiring', n, nil)
    mend_lists(n, ARGV[i + 1], nil)
  else
    local is_done = r[3] and tonumber(r[6] or 0) == 0 and tonumber(r[7] or 0) == 0 and tonumber(r[8] or 0) == 0
    local id_key = r[2] and P .. 'request-id:' .. r[2]
    if id_key and call('SET', id_key, n, 'NX') then did('request-id:%s points to request %s', r[2], n) end
    if id_key and call('GET', id_key) ~= n then id_key = nil end -- another's by now
    local keys = { key, chunks, id_key }
    if is_done then
      local stays = call('HEXISTS', key, 'done_at') == 0
      for _, one in ipairs(keys) do stays = stays or call('PTTL', one) == -1 end
      if stays then
        account(n, {})
        did('request %s ends: it is done', n)
      end
    else
      local kept = call('HDEL', key, 'done_at')
      for _, one in ipairs(keys) do kept = kept + call('PERSIST', one) end
      if kept > 0 then did('request %s is kept: it is not done', n) end
    end
    mend_lists(n, r[9], is_done and 'done' or 'active')
    mend_index('open', n, not r[3] and now or nil)
    mend_index('expiring', n, r[5] and not r[4] and not is_done and tonumber(r[5]) or nil)
  end
end
return done
