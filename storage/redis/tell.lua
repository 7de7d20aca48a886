-- Tells the counter of a calendar period that is missing what the account has. KEYS: the counter. ARGV: the figure; when it is
-- no longer needed, in milliseconds since the epoch. What is added behind this and was in the account before is left out by
-- hold.lua.
if redis.call('HSETNX', KEYS[1], 'used', ARGV[1]) == 1 then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'told', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
end
return redis.call('PEXPIREAT', KEYS[1], ARGV[2])
