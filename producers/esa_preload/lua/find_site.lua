#!lua flags=allow-oom
-- Find a site of the account by its name. ARGV: 2 name. When there is none the workers are asked to list the sites again, soon.
-- Returns: {'ok', id} | {'unknown', ms since they were listed or -1, workers seen in the last minute, {name, id, name, id ...} of all there are}. O(1), or O(names).
local id = call('HGET', P .. 'site-ids', ARGV[2])
if id then return { 'ok', id } end
call('HSET', P .. 'meta', 'names_wanted', text(now))
local listed = call('HGET', P .. 'meta', 'names_at')
return { 'unknown', listed and now - tonumber(listed) or -1, call('ZCARD', P .. 'workers'), call('HGETALL', P .. 'site-ids') }
