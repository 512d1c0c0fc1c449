#!lua flags=no-writes
-- Tell which pending URLs are in no list of their band. Writes nothing.
-- ARGV: 2 site, 3 lane, 4 entries to look at from each end of a list, 5... url, value, url, value ... of URLs that were not met
--       when the list was read from its tail to its head.
-- Returns: the indexes from 0 of those that still have that value, and are not at an end of the list either, where they may have
-- been put since. O(URLs * entries).
local id, window = ARGV[2] .. ':' .. ARGV[3], ARGV[4]
local lost = {}
for i = 5, #ARGV, 2 do
  local url, value = ARGV[i], ARGV[i + 1]
  if call('HGET', P .. 'urls:' .. id, url) == value then
    local list = P .. 'band:' .. id .. ':' .. parse_value(value)
    if not call('LPOS', list, url, 'MAXLEN', window) and not call('LPOS', list, url, 'RANK', -1, 'MAXLEN', window) then
      lost[#lost + 1] = (i - 5) / 2
    end
  end
end
return lost
