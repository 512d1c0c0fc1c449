-- Take URLs out of a lane, for a batch. Included by the scripts that claim some.
local look_at_most = 1000 -- entries a call, when most belong to nobody any more

local function urls_of(members)
  local urls = {}
  for url in string.gmatch(members, '([^\n ]+) [^\n]+') do urls[#urls + 1] = url end
  return urls
end

-- Of a URL in the form that Create sends; of one in a list, with the end of its line.
local function encoded_size(url)
  local _, odd = string.gsub(url, '[^%w%-%._]', '')
  return #url + 2 * odd + 3
end

local function line_size(url)
  return #url + 1
end

-- Take URLs of a lane for a batch, and account them: `most` at most, and `most_bytes` by `size`, though one at least. Returns {urls, members
-- (as they are stored), counts {owner: URLs}, oldest, count, bytes (by `size`, or more)}, or nil: there are none. O(URLs).
local function claim(site, lane, most, most_bytes, size)
  local id = site .. ':' .. lane
  local urls_key = P .. 'urls:' .. id
  local lengths, urls, members, counts, touched = {}, {}, {}, {}, {}
  local bytes, is_exact, oldest, raw, gone, full = 0, size ~= encoded_size, INF, 0, 0, false
  local given = { [0] = 0, 0, 0 }
  local weight, has_passed = weight_of(site, lane), window_end(lane) <= now
  for b = 0, 2 do lengths[b] = call('LLEN', P .. 'band:' .. id .. ':' .. b) end

  -- The form-encoded size is three bytes a character at most; it is counted only when that bound no longer fits.
  local function measure(url)
    return is_exact and size(url) or 3 * #url + 3
  end
  local function fits(url)
    if #urls == 0 or bytes + measure(url) <= most_bytes then return true end
    if is_exact then return false end
    is_exact, bytes = true, 0
    for i = 1, #urls do bytes = bytes + measure(urls[i]) end
    return bytes + measure(url) <= most_bytes
  end

  local function pop(band, want)
    local list, wanted = P .. 'band:' .. id .. ':' .. band, tostring(band)
    local read, in_band, at, owners -- URLs of one chunk share their value: it is read once
    while want > 0 and not full and look_at_most > 0 do
      local popped = call('LPOP', list, want)
      if not popped then return end
      look_at_most = look_at_most - #popped
      local values = call('HMGET', urls_key, unpack(popped))
      local remove, seen = {}, {}
      for i, url in ipairs(popped) do
        local value = values[i]
        if value and value ~= read then
          in_band, at, owners = parse_value(value)
          read = value
        end
        if value and in_band == wanted and not seen[url] then
          local found = read_owners(owners)
          local live = has_passed and {} or found.live
          if #live > 0 and not fits(url) then
            full = true -- give back what does not fit, in its order
            local rest = {}
            for j = #popped, i, -1 do rest[#rest + 1] = popped[j] end
            call('LPUSH', list, unpack(rest))
            break
          end
          seen[url] = true
          remove[#remove + 1] = url
          raw = raw + #url
          if #live == 0 then
            gone = gone + weight
            drop(site, lane, url, owners, weight, touched)
          else
            bytes = bytes + measure(url)
            if at < oldest then oldest = at end
            for _, owner in ipairs(live) do add(counts, owner, weight) end
            if #live < #found.all then value = in_band .. string.format('%.0f', at) .. ':' .. found.text end
            given[band] = given[band] + 1
            urls[#urls + 1] = url
            members[#members + 1] = url .. ' ' .. value
            want = want - 1
          end
        end
      end
      if #remove > 0 then call('HDEL', urls_key, unpack(remove)) end
    end
  end

  -- A tenth of the room is kept for the bands below, while they have something: of small batches, a place now and then. Of batches
  -- that are full by their bytes the bands below get it in the next one, and first.
  local lane_key, below = P .. 'lane:' .. id, lengths[1] + lengths[2]
  local tenths = below > 0 and call('HMGET', lane_key, 'tenths', 'tenths_low') or {}
  local owed, owed_low = tonumber(tenths[1] or 0), tonumber(tenths[2] or 0)
  local function kept(field, before, room, waiting)
    if waiting == 0 then return 0 end
    call('HSET', lane_key, field, (before + room) % 10)
    return math.min(waiting, math.floor((before + room) / 10))
  end
  local first = lengths[0] > 0 and math.min(most, math.floor(owed / 10)) or most
  pop(2, math.min(first, math.floor(owed_low / 10)))
  if lengths[0] > 0 then
    pop(1, first - given[2])
    pop(2, first - given[1] - given[2])
  end
  owed, owed_low = math.max(0, owed - 10 * #urls), math.max(0, owed_low - 10 * given[2])
  pop(0, most - #urls - kept('tenths', owed, most, below))
  local room = most - #urls
  pop(1, room - kept('tenths_low', owed_low, room, lengths[2]))
  for _, band in ipairs({ 2, 0, 1 }) do pop(band, most - #urls) end
  if full and below > 0 then
    local lower = given[1] + given[2]
    call('HSET', lane_key, 'tenths', math.max(0, tonumber(tenths[1] or 0) + #urls - 10 * lower),
      'tenths_low', math.max(0, tonumber(tenths[2] or 0) + lower - 10 * given[2]))
  end

  if raw > 0 then call('HINCRBY', P .. 'lane:' .. id, 'bytes', -raw) end
  account_passed(site)
  account_site(site, { pending = -(#urls * weight + gone) })
  account_site(site, touched)
  if #urls == 0 then return nil end
  return { urls = urls, members = members, counts = counts, oldest = oldest, count = #urls * weight, bytes = bytes }
end

-- Write down what was claimed as a batch of its own; `fields` say what it is.
local function write_claim(id, site, lane, found, fields)
  local owners = {}
  for owner, n in pairs(found.counts) do
    account(owner, { pending = -n, in_flight = n })
    owners[#owners + 1] = owner .. ':' .. n
  end
  call('HSET', P .. 'batch:' .. id, 'v', VERSION, 'site', site, 'lane', lane, 'count', found.count, 'oldest_at', text(found.oldest),
    'claimed_at', text(now), 'owners', table.concat(owners, ' '), 'members', table.concat(found.members, '\n'), unpack(fields))
  account_site(site, { in_flight = found.count })
end
