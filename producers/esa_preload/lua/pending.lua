#!lua flags=no-writes
-- Read which of a lane's URLs are pending for a request, a bounded part of the lane a call.
-- ARGV: 2 number of the request, 3 site, 4 lane, 5 cursor ('0' to begin with), 6 most URLs to look for, about.
-- Returns: {cursor ('0': that was all), url, when it was accepted, url, ...}. Once round the whole lane every URL that was there all the while
-- was met; one may be met twice. O(a thousand URLs), a few ms, but for those with very many owners.
local wanted, key = ',' .. ARGV[2] .. ',', P .. 'urls:' .. ARGV[3] .. ':' .. ARGV[4]
local LOOK_AT, STEP = 1000, 100
local cursor, most, seen, out = ARGV[5], tonumber(ARGV[6]), 0, {}
repeat
  local page = call('HSCAN', key, cursor, 'COUNT', math.min(STEP, most))
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local _, at, owners = parse_value(page[2][i + 1])
    if string.find(',' .. owners .. ',', wanted, 1, true) then
      out[#out + 1] = page[2][i]
      out[#out + 1] = string.format('%.0f', at)
    end
  end
  seen = seen + #page[2] / 2
until cursor == '0' or seen >= LOOK_AT or #out >= 2 * most
return { cursor, unpack(out) }
