-- GCRA over many limits, many requests, one call. Exact: the server's clock, one atomic run.
--
-- KEYS: the counters of each group's charges in turn; one that several groups touch stands there for each of them.
-- ARGV: for each group of equal requests: how many, how many charges; then for each charge its period in
-- microseconds, its count.
-- A counter holds the theoretical arrival time in whole microseconds since the epoch and expires when it is in the past,
-- but not within a second: an expiry is written to the append-only file and to replicas, so that each of a fast limit's
-- would cost the next run more than it saves.
-- In here it is how far that is ahead: differences are exact where times of 10^15 with a fraction are not. At most one
-- period counts, and a refusal corrects it, so that neither a clock set back nor a limit that was just raised locks
-- anybody out. A request may come a microsecond early, but less than half an interval: rounding must refuse nobody and
-- admit nobody beyond the burst.
-- What refills within a minute is kept in memory alone: to write it to the append-only file and to replicas costs a
-- tenth of the run, for what is soon void. A server that starts anew grants each such limit one more burst at the most.
-- Answer, flat: for each group: how many are admitted (the first ones), the refusing charge's place within the group
-- (0 if none refused), milliseconds until one more fits; then for each charge: requests left, milliseconds to full.
local KEYS, ARGV, tonumber = KEYS, ARGV, tonumber
local call, floor, ceil, min, max = redis.call, math.floor, math.ceil, math.min, math.max
local MINUTE, SECOND_MS = 60 * 1000000, 1000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local aheads, changed = {}, {}
local periods, counts, graces = {}, {}, {}
local answer, said, at, first = {}, 0, 1, 0
while at <= #ARGV do
  local wanted, charges = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local fit = wanted
  for c = 1, charges do
    local key, period, count = KEYS[first + c], tonumber(ARGV[at + c * 2]), tonumber(ARGV[at + c * 2 + 1])
    local grace = min(1, period / count / 2)
    local ahead = aheads[key]
    if not ahead then
      ahead = max((call('GET', key) or 0) - now, 0)
      aheads[key] = ahead
    end
    if ahead > period then
      ahead = period
      aheads[key], changed[key] = ahead, period
    end
    periods[c], counts[c], graces[c] = period, count, grace
    fit = min(fit, floor((period - ahead + grace) * count / period))
  end
  local refusing, wait = 0, 0
  for c = 1, charges do
    local key, period, count, grace = KEYS[first + c], periods[c], counts[c], graces[c]
    local ahead = aheads[key] + fit * period / count
    if fit > 0 then
      aheads[key], changed[key] = ahead, period
    end
    if fit < wanted then
      local lacks = ahead + period / count - period - grace
      if lacks > wait then
        refusing, wait = c, lacks
      end
    end
    ahead = min(ahead, period)
    answer[said + 2 + c * 2] = floor((period - ahead + grace) * count / period)
    answer[said + 3 + c * 2] = ceil(ahead / 1000)
  end
  answer[said + 1], answer[said + 2], answer[said + 3] = fit, refusing, ceil(wait / 1000)
  said = said + 3 + charges * 2
  at = at + 2 + charges * 2
  first = first + charges
end
local function keep(key)
  local ahead = aheads[key]
  call('SET', key, floor(now + ahead + 0.5), 'PX', max(ceil(ahead / 1000), SECOND_MS) + 1)
end
local is_short = false
for key, period in pairs(changed) do
  if period > MINUTE then
    keep(key)
    changed[key] = nil
  else
    is_short = true
  end
end
if is_short then
  pcall(redis.set_repl, redis.REPL_NONE)  -- a server that speaks Redis may lack it, and then writes them as any other
  for key in pairs(changed) do
    keep(key)
  end
end
return answer
