#!lua flags=no-writes
-- Read what the calls of all workers came to. ARGV: 2 buckets to read; the last one is that of now.
-- Returns: when the first bucket begins, in ms, a bucket's length in ms, then of each bucket passed, throttled, urls. O(buckets).
local buckets = tonumber(ARGV[2])
local first = (math.floor(now / BUCKET_MS) - buckets + 1) * BUCKET_MS
local out = { first, BUCKET_MS }
for i = 0, buckets - 1 do
  for _, count in ipairs(call('HMGET', traffic_key(first + i * BUCKET_MS), 'passed', 'throttled', 'urls')) do
    out[#out + 1] = tonumber(count or 0)
  end
end
return out
