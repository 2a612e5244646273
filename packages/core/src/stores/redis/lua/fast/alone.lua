-- One check, alone in its call: a script for each KIND of limit, with nothing set up that it does not need. When the check breaks
-- off, it answers an empty list and has changed nothing; the caller then asks the script that can do everything.
--
-- ARGV[2]  the limit's field, and from ARGV[3] on the parameters of its check
local at, key, field = 3, KEYS[1], ARGV[2]
local value = attempt('HGET', key, field)
-- An error, as a table: there is something else under this key.
if value and type(value) == 'table' then return {} end
--@ KIND-parameters
local text, ms = nil, 0
repeat
  --@ KIND-check
until true
if text then
  call('HSET', key, field, text)
  -- A new hash can only be given a time to live once it is there; both are one step to everybody else.
  if ms > 0 and call('PTTL', key) < ms + slackMs then call('PEXPIRE', key, ms + slackMs) end
elseif text == nil then
  return {}
end
return out
