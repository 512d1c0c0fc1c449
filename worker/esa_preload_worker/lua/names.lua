#!lua flags=allow-oom
-- Keep the names of the account's sites, in the place of those from before. ARGV: 2 ms that they are kept, 3... name, id, name, id ...
-- Returns how many there are. O(names): 10,000 at most.
local ids, names, SOME = P .. 'site-ids', P .. 'site-names', 1000
call('UNLINK', ids, names)
for first = 3, #ARGV, SOME do
  local last, turned = math.min(first + SOME - 1, #ARGV), {}
  for i = first, last, 2 do
    turned[#turned + 1] = ARGV[i + 1]
    turned[#turned + 1] = ARGV[i]
  end
  call('HSET', ids, unpack(ARGV, first, last))
  call('HSET', names, unpack(turned))
end
call('PEXPIRE', ids, ARGV[2])
call('PEXPIRE', names, ARGV[2])
call('HSET', P .. 'meta', 'names_at', text(now))
return (#ARGV - 2) / 2
