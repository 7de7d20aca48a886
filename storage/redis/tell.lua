-- Tells the counter of a calendar period what the account has, where it is missing or has less. KEYS: the counter. ARGV: the
-- figure; when it is no longer needed, in milliseconds since the epoch. What is added behind this and was in the account before
-- is left out by hold.lua.
local used = redis.call('HGET', KEYS[1], 'used')
if not used or tonumber(used) < tonumber(ARGV[1]) then
  local time = redis.call('TIME')
  local told = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', KEYS[1], 'used', ARGV[1], 'told', told)
end
return redis.call('PEXPIREAT', KEYS[1], ARGV[2])
