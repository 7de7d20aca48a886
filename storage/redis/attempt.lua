-- One try at a log-in, counted before it is made: all of its buckets take it, or none and it must wait.
-- KEYS  one hash a bucket: n tries, until (ms) the bucket is shut
-- ARGV  for each bucket: how many tries are free; then the first wait and the longest wait, in ms
-- Gives the milliseconds to wait, 0 when the try was counted; and then those for which it has shut a bucket.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first, longest = tonumber(ARGV[#KEYS + 1]), tonumber(ARGV[#KEYS + 2])
local wait = 0
for i, key in ipairs(KEYS) do
  local until_ms = tonumber(redis.call('HGET', key, 'until') or '0')
  if until_ms > now + longest then  -- the clock was set back
    until_ms = now + longest
    redis.call('HSET', key, 'until', string.format('%.0f', until_ms))
  end
  if until_ms - now > wait then wait = until_ms - now end
end
if wait > 0 then return {wait, 0} end
local shut = 0
for i, key in ipairs(KEYS) do
  local n = redis.call('HINCRBY', key, 'n', 1)
  local over = n - tonumber(ARGV[i])
  if over >= 0 then
    local closed = math.min(longest, first * 2 ^ math.min(over, 30))
    redis.call('HSET', key, 'until', string.format('%.0f', now + closed))
    shut = math.max(shut, closed)
  end
  redis.call('PEXPIRE', key, longest * 2)
end
return {0, shut}
