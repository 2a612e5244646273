-- Checks alike that nothing unusual has happened to: the path nearly all take. It stops at the first key that is blocked, was
-- kept under another rate, is ahead of the clock by far, or is not ours; that one and those after it are left to the general
-- path behind this.
--
-- ARGV[2]  the whole program for the general path, JSON: [rules, operations]; see 7-operations.lua
-- ARGV[3]  when all keys are asked for the same: how many limits each is to be debited on, all or none; then, from ARGV[4] on,
--          ten parameters for each of these limits; else nothing
local count, done = #KEYS, 0

local function extend(key, ms)
  if call('PTTL', key) < ms + slackMs then call('PEXPIRE', key, ms + slackMs) end
end

local function bucketAt(at)
  --@ bucket-parameters
  return function(value)
    local text, ms = nil, 0
    repeat
      --@ bucket-check
    until true
    return text, ms
  end
end

local function logAt(at)
  --@ log-parameters
  return function(value)
    local text, ms = nil, 0
    repeat
      --@ log-check
    until true
    return text, ms
  end
end

local function windowAt(at)
  --@ window-parameters
  return function(value)
    local text, ms = nil, 0
    repeat
      --@ window-check
    until true
    return text, ms
  end
end

-- The field and the checks of a limit whose parameters are at `at`.
local function limitAt(at)
  local kind = ARGV[at]
  local checks = kind == 'bucket' and bucketAt or kind == 'log' and logAt or windowAt
  return ARGV[at + 1], checks(at + 2)
end

if ARGV[3] == '1' then
  local field, check = limitAt(4)
  for i = 1, count do
    local key = KEYS[i]
    local value = attempt('HGET', key, field)
    -- An error, as a table: there is something else under this key.
    if value and type(value) == 'table' then break end
    local text, ms = check(value)
    if text then
      call('HSET', key, field, text)
      if ms > 0 then extend(key, ms) end
    elseif text == nil then
      break
    end
    done = i
  end
elseif ARGV[3] ~= '' then
  local n, fields, checks, writes = tonumber(ARGV[3]), {}, {}, {}
  for j = 1, n do
    fields[j], checks[j] = limitAt(j * 10 - 6)
    writes[2 * j - 1] = fields[j]
  end
  for i = 1, count do
    local key, mark = KEYS[i], o
    local held = attempt('HMGET', key, unpack(fields))
    if held.err then break end
    local areAll, isUsual, longest = true, true, 0
    for j = 1, n do
      local text, ms = checks[j](held[j])
      if text then
        writes[2 * j] = text
        if ms > longest then longest = ms end
      elseif text == false then
        areAll = false
      else
        isUsual = false
        break
      end
    end
    if not isUsual then
      o = mark
      break
    end
    if areAll then
      call('HSET', key, unpack(writes))
      if longest > 0 then extend(key, longest) end
    end
    done = i
  end
end
if done == count then return out end
