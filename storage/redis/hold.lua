-- Leases and reservations over many limits, all or nothing: policies.limits.holding.apply, which this is tested against.
--
-- KEYS: two a limit, its counter and who holds of it. ARGV: the lease; its time in milliseconds; how many milliseconds ago the
-- account began to have what was spent, below 0 when this may have been carried out already, and then that counts only where
-- the reservation is still there; then a word for each limit, with blanks between its parts:
--   kind         r (rate), l (lease), w (window), q (quota of a calendar period)
--   count        units in the period, or at one time
--   span         r, w: the period in microseconds; q: its end in milliseconds since the epoch
--   shadow       1: counted, and refuses nobody
--   had, spent, want    the lease's reservation so far; what of it is gone for good; what it is to be now
--   least        what has to fit, although no more than want is reserved
-- A window goes into debt, by what a request came to beyond its reservation: at most a whole period's worth is kept.
-- Counters: r a string, the theoretical arrival time as in take.lua; w a hash of tat and held; q a hash of used and held,
-- where a missing used means that nobody knows it, and told is when it was told what the account had: with all that was in
-- there before. Who holds: a sorted set by the instant, in milliseconds, until which it
-- does; its members are the lease alone, or its amount, a bar and the lease.
-- Answer, flat: 1 if all fitted, the place of the refusing limit (0: none), milliseconds until it may fit (-1: never);
-- then for each limit: units left, milliseconds to whole, 0, 1 (did not fit) or 2 (nobody knows what was used), and what of a
-- quota is spent for good.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)
local lease, lease_ms, ago = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local again = ago < 0
local GRACE = 1e-6
local PARTS = '^(%a) (%d+) (%d+) (%d) (%d+) (-?%d+) (%d+) (%d+)$'

-- Nobody holds for longer than a lease from now: the clock may have been set back.
local function expire(counter, holders, has_amounts)
  local until_ms = now_ms + lease_ms
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', holders, '(' .. until_ms, '+inf', 'LIMIT', 0, 1000)) do
    redis.call('ZADD', holders, until_ms, member)
  end
  local gone = redis.call('ZRANGEBYSCORE', holders, '-inf', now_ms, 'LIMIT', 0, 1000)
  if #gone == 0 then return end
  redis.call('ZREM', holders, unpack(gone))
  if not has_amounts then return end
  local freed = 0
  for _, member in ipairs(gone) do
    freed = freed + tonumber(string.match(member, '^%d+'))
  end
  if redis.call('HEXISTS', counter, 'held') == 1 then redis.call('HINCRBY', counter, 'held', -freed) end
end

-- The sum of all amounts, kept beside them; counted anew where the counter was lost and they were not.
local function held_of(counter, holders, kept)
  if redis.call('ZCARD', holders) == 0 then
    if kept and kept ~= '0' then redis.call('HSET', counter, 'held', 0) end
    return 0
  end
  if kept then return tonumber(kept) end
  local sum = 0
  for _, member in ipairs(redis.call('ZRANGE', holders, 0, -1)) do
    sum = sum + tonumber(string.match(member, '^%d+'))
  end
  redis.call('HSET', counter, 'held', string.format('%.0f', sum))
  return sum
end

local limits, unknown = {}, false
for n = 0, #KEYS / 2 - 1 do
  local kind, count, span, shadow, had, spent, want, least = string.match(ARGV[4 + n], PARTS)
  local l = {
    counter = KEYS[n * 2 + 1], holders = KEYS[n * 2 + 2], kind = kind, count = tonumber(count), span = tonumber(span),
    shadow = shadow == '1', spent = tonumber(spent), want = tonumber(want), used = 0, held = 0, own = 0,
  }
  l.need = math.max(l.want, tonumber(least))
  limits[n + 1] = l
  if l.kind == 'r' then
    l.ahead = math.max(tonumber(redis.call('GET', l.counter) or 0) - now, 0)
  elseif l.kind == 'l' then
    l.member = lease
    expire(l.counter, l.holders, false)
    l.held = redis.call('ZCARD', l.holders)
    if redis.call('ZSCORE', l.holders, lease) then l.own = 1 end
  else
    expire(l.counter, l.holders, true)
    local kept = redis.call('HMGET', l.counter, l.kind == 'w' and 'tat' or 'used', 'held')
    if l.kind == 'w' then
      l.ahead = math.max(tonumber(kept[1] or 0) - now, 0)
    elseif kept[1] then
      l.used = tonumber(kept[1])
    else
      l.unknown = true
    end
    l.held = held_of(l.counter, l.holders, kept[2])
    if had ~= '0' then
      l.member = had .. '|' .. lease
      if redis.call('ZSCORE', l.holders, l.member) then l.own = tonumber(had) end
    end
  end
  if again and l.own == 0 then l.spent = 0 end
  if ago ~= 0 and l.kind == 'q' and l.spent ~= 0 then
    local told = tonumber(redis.call('HGET', l.counter, 'told') or 0)
    if told > now_ms - math.abs(ago) and told <= now_ms then l.spent = 0 end  -- later than now: a clock was set back
  end
  if l.ahead then
    l.most = l.kind == 'w' and l.span * 2 or l.span
    l.stray = l.ahead > l.most
    l.ahead = math.min(l.ahead, l.most)
    l.used = l.ahead * l.count / l.span
  end
  if l.unknown and l.need > 0 then unknown = true end
end

local answer = {1, 0, 0}
if unknown then
  answer[1] = 0
  for n, l in ipairs(limits) do
    answer[n * 4], answer[n * 4 + 1], answer[n * 4 + 2], answer[n * 4 + 3] = 0, 0, l.unknown and 2 or 0, 0
  end
  return answer
end

local longest = 0
for n, l in ipairs(limits) do
  l.lacks = 0
  if l.need > 0 and l.need > l.own - l.spent then
    l.lacks = l.used + l.held - l.own + l.spent + l.need - l.count
  end
  l.over = l.lacks > GRACE
  if l.over and not l.shadow then
    local wait
    if l.need + math.max(l.spent, 0) > l.count then
      wait = -1
    elseif l.kind == 'l' or l.kind == 'q' and l.used + math.max(l.spent, 0) + l.need <= l.count then
      wait = 1000
    elseif l.kind == 'q' then
      wait = math.max(l.span - now_ms, 1)
    else
      wait = math.max(math.ceil((l.lacks - GRACE) * l.span / l.count / 1000), 1)
    end
    if answer[1] == 1 or (longest ~= -1 and (wait == -1 or wait > longest)) then
      longest = wait
      answer[2], answer[3] = n, wait
    end
    answer[1] = 0
  end
end

for n, l in ipairs(limits) do
  local spent, want = l.spent, l.want
  if l.over or answer[1] == 0 then
    want = math.min(want, math.max(l.own - math.max(spent, 0), 0))
  elseif l.kind == 'r' then
    spent, want = spent + want, 0
  end
  if l.kind == 'l' then
    if want > 0 then
      redis.call('ZADD', l.holders, now_ms + lease_ms, lease)
      redis.call('PEXPIRE', l.holders, lease_ms * 2)
    elseif l.own > 0 then
      redis.call('ZREM', l.holders, lease)
    end
  elseif l.kind ~= 'r' and not l.unknown and (want > 0 or l.own > 0) then
    if l.own > 0 then redis.call('ZREM', l.holders, l.member) end
    if want > 0 then
      redis.call('ZADD', l.holders, now_ms + lease_ms, string.format('%.0f', want) .. '|' .. lease)
      redis.call('PEXPIRE', l.holders, lease_ms * 2)
    end
    if want ~= l.own then redis.call('HINCRBY', l.counter, 'held', string.format('%.0f', want - l.own)) end
  end
  l.held = l.held + want - l.own
  if l.kind == 'q' then
    if not l.unknown then
      if spent ~= 0 then
        l.used = math.max(l.used + spent, 0)
        redis.call('HSET', l.counter, 'used', string.format('%.0f', l.used))
      end
      redis.call('PEXPIREAT', l.counter, string.format('%.0f', l.span + 86400000))
    end
  elseif l.ahead then
    if spent ~= 0 or l.stray then
      l.used = math.max(l.used + spent, 0)
      l.ahead = math.min(l.used * l.span / l.count, l.most)
      local tat = string.format('%.0f', now + l.ahead)
      if l.kind == 'r' then
        redis.call('SET', l.counter, tat, 'PX', math.max(math.ceil(l.ahead / 1000), 1000) + 1)  -- as take.lua does
      else
        redis.call('HSET', l.counter, 'tat', tat)
      end
    end
    if l.kind == 'w' then redis.call('PEXPIRE', l.counter, math.ceil(l.ahead / 1000) + lease_ms * 2) end
  end
  local at = n * 4
  answer[at] = math.max(math.floor(l.count - l.used - l.held + GRACE), 0)
  answer[at + 1] = 0
  if l.kind == 'q' then
    answer[at + 1] = math.max(l.span - now_ms, 0)
  elseif l.ahead then
    answer[at + 1] = math.ceil(l.ahead / 1000 - 0.001)
  end
  answer[at + 2] = l.unknown and 2 or l.over and 1 or 0
  answer[at + 3] = l.kind == 'q' and l.used or 0
end
return answer
