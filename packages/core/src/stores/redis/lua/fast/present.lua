-- What all scripts begin with.
--
-- KEYS     one hash for each subject; a field for each limit; see 2-values.lua for what is in it
-- ARGV[1]  now, or 0 for the server's clock
--
-- Answers a flat list of whole numbers: the present in microseconds, how many values were not ours, and then for each check
-- what is in 7-operations.lua under "summary".
local call, attempt, sub, fmod, floor, ceil = redis.call, redis.pcall, string.sub, math.fmod, math.floor, math.ceil
local packed, unpacked = struct.pack, struct.unpack
local now = ARGV[1] + 0
-- Expiry is on the same clock as TIME, in milliseconds; with an instant handed in by a test it is not.
local slackMs = 600000
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
  slackMs = 20
end
local out, o = { now, 0 }, 2

-- Behind this come checks. What each of a limit's parameters is, from ARGV[at] on, is in KIND-parameters.lua, and the check of a
-- field's `value` in KIND-check.lua: `text` becomes the value after a debit, and `ms` how long its key is to be kept, 0 if that
-- need not be looked at; or `text` becomes false when the limit refuses; or the check breaks off, and `text` is nothing, when
-- the general path must look at it. They are put into their places by tools/build-lua.mjs: a call, and a function made in every
-- run of a script, cost more than they do.
--
-- A key is kept longer than it is needed, so that not every debit has to see to it. The field says until when it is kept at
-- least; only the key's longest time counts.
