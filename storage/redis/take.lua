-- GCRA over many limits, many requests, one call. Exact: the server's clock, one atomic run.
--
-- KEYS: one counter a charge. ARGV: for each group of equal requests: how many, how many charges; then for each charge
-- its place in KEYS (1-based), its period in microseconds, its count.
-- A counter holds the theoretical arrival time in whole microseconds since the epoch and expires when it is in the past.
-- In here it is how far that is ahead: differences are exact where times of 10^15 with a fraction are not. At most one
-- period counts, and a refusal corrects it, so that neither a clock set back nor a limit that was just raised locks
-- anybody out. A request may come a microsecond early, but less than half an interval: rounding must refuse nobody and
-- admit nobody beyond the burst.
-- Answer, flat: for each group: how many are admitted (the first ones), the refusing charge's place within the group
-- (0 if none refused), milliseconds until one more fits; then for each charge: requests left, milliseconds to full.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local aheads = {}
for i, key in ipairs(KEYS) do
  aheads[i] = math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
end
local function grace(period, count)
  return math.min(1, period / count / 2)
end
local function fitting(ahead, period, count)
  return math.floor((period - ahead + grace(period, count)) * count / period)
end
local answer, changed, at = {}, {}, 1
while at <= #ARGV do
  local wanted, charges = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local fit = wanted
  for c = 0, charges - 1 do
    local base = at + 2 + c * 3
    local place, period, count = tonumber(ARGV[base]), tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2])
    if aheads[place] > period then
      aheads[place] = period
      changed[place] = true
    end
    fit = math.min(fit, fitting(aheads[place], period, count))
  end
  local refusing, wait = 0, 0
  local head = #answer
  answer[head + 1] = fit
  for c = 0, charges - 1 do
    local base = at + 2 + c * 3
    local place, period, count = tonumber(ARGV[base]), tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2])
    local ahead = aheads[place] + fit * period / count
    if fit > 0 then
      aheads[place] = ahead
      changed[place] = true
    end
    if fit < wanted then
      local lacks = ahead + period / count - period - grace(period, count)
      if lacks > wait then
        refusing, wait = c + 1, lacks
      end
    end
    ahead = math.min(ahead, period)
    answer[head + 4 + c * 2] = fitting(ahead, period, count)
    answer[head + 5 + c * 2] = math.ceil(ahead / 1000)
  end
  answer[head + 2] = refusing
  answer[head + 3] = math.ceil(wait / 1000)
  at = at + 2 + charges * 3
end
for place in pairs(changed) do
  local ahead = aheads[place]
  redis.call('SET', KEYS[place], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000) + 1)
end
return answer
