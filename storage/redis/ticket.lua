-- One use of a ticket. KEYS  a hash: sealed, and left, the uses that are. Gives what is sealed, or nothing.
local left = tonumber(redis.call('HGET', KEYS[1], 'left') or '0')
if left < 1 then return false end
local sealed = redis.call('HGET', KEYS[1], 'sealed')
if left == 1 then redis.call('DEL', KEYS[1]) else redis.call('HINCRBY', KEYS[1], 'left', -1) end
return sealed
