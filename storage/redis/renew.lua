-- Keeps leases alive. KEYS: two a limit, as in hold.lua. ARGV: their time in milliseconds; then for each limit how many
-- members, and the members. One that had expired is put back: its request is still being served.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_ms = tonumber(ARGV[1])
local at = 2
for n = 1, #KEYS, 2 do
  local counter, holders = KEYS[n], KEYS[n + 1]
  local last = at + tonumber(ARGV[at])
  for m = at + 1, last do
    local amount = string.match(ARGV[m], '^(%d+)|')
    if amount and not redis.call('ZSCORE', holders, ARGV[m]) and redis.call('HEXISTS', counter, 'held') == 1 then
      redis.call('HINCRBY', counter, 'held', amount)
    end
    redis.call('ZADD', holders, now_ms + lease_ms, ARGV[m])
  end
  redis.call('PEXPIRE', holders, lease_ms * 2)
  if redis.call('EXISTS', counter) == 1 and redis.call('PTTL', counter) < lease_ms * 2 then
    redis.call('PEXPIRE', counter, lease_ms * 2)
  end
  at = last + 1
end
