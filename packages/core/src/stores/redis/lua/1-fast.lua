-- Checks alike that nothing unusual has happened to: the path nearly all take, with nothing set up that it does not need. It
-- stops at the first key that is blocked, was kept under another rate, is ahead of the clock by far, or is not ours; that one
-- and those after it are left to the general path below.
--
-- KEYS     one hash for each subject; a field for each limit; see 2-values.lua for what is in it
-- ARGV[1]  the whole program for the general path, JSON: [now or 0, rules, operations]; see 7-operations.lua. Empty for a single
--          check, which mostly does not need it: if it does, the answer is empty.
-- ARGV[2]  now, or 0 for the server's clock
-- ARGV[3]  when all keys are asked for the same: how many limits each is to be debited on, all or none; then, from ARGV[4] on,
--          ten parameters for each of these limits; else nothing
--
-- Answers a flat list of whole numbers: the present in microseconds, how many values were not ours, and then for each check
-- what is in 7-operations.lua under "summary".
local call, byte, sub, fmod, floor, ceil = redis.call, string.byte, string.sub, math.fmod, math.floor, math.ceil
local packed, unpacked, attempt = struct.pack, struct.unpack, redis.pcall
local count = #KEYS
local now = ARGV[2] + 0
-- Expiry is on the same clock as TIME, in milliseconds; with an instant handed in by a test it is not.
local slackMs = 600000
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
  slackMs = 20
end
local nowMs = floor(now / 1000)
local out, o, done = { now, 0 }, 2, 0

-- How long a key is kept for a field that is needed until `untilUs`, in milliseconds: longer than that, so that not every debit
-- has to see to it. The field says until when the key is kept at least; only the key's longest time counts.
local function termOf(untilUs, lingerMs)
  return math.max(0, ceil((untilUs - now) / 1000)) + 1 + lingerMs
end

local function extend(key, ms)
  if call('PTTL', key) < ms + slackMs then call('PEXPIRE', key, ms + slackMs) end
end

-- The checks of one limit, as a function of a field's value. It answers the value after a debit and the term of its key, 0 if
-- that need not be extended; or false when the limit refuses; or nothing when the general path must look at it.
local function bucketAt(at)
  local header, linger = ARGV[at], ARGV[at + 1] + 0
  local costUs, costPart, parts = ARGV[at + 2] + 0, ARGV[at + 3] + 0, ARGV[at + 4] + 0
  local fullUs, fullPart, far = now + ARGV[at + 5], ARGV[at + 6] + 0, now + ARGV[at + 7]
  local width, start = #header + 17, #header + 1
  return function(value)
    local kept, tat, part = 0, now, 0
    if value then
      if #value ~= width or sub(value, 1, start - 1) ~= header then return nil end
      kept, tat, part = unpacked('>I6I7I4', value, start)
      if tat < now then
        if part == 0 or tat < now - 1 then tat, part = now, 0 end
      elseif tat > far then
        return nil
      end
    end
    o = o + 1
    out[o] = (tat - now) * 2
    tat = tat + costUs
    if parts > 1 then
      o = o + 1
      out[o] = part
      local total = part + costPart
      part = fmod(total, parts)
      tat = tat + (total - part) / parts
    end
    if tat > fullUs or (tat == fullUs and part > fullPart) then return false end
    local ms = 0
    if kept * 1000 < tat + 2 then
      ms = termOf(tat + 2, linger)
      kept = nowMs + ms
    end
    return header .. packed('>I6I7I4', kept, tat, part), ms
  end
end

local function logAt(at)
  local header, linger = ARGV[at], ARGV[at + 1] + 0
  local cost, capacity, period, cell = ARGV[at + 2] + 0, ARGV[at + 3] + 0, ARGV[at + 4] + 0, ARGV[at + 5] + 0
  local start = #header + 1
  local first = start + 17
  return function(value)
    local kept, used, heldUs = 0, 0, now
    local base, before, offset, sum, length, last, tail
    if value then
      length = #value
      if length < first + 5 or sub(value, 1, start - 1) ~= header or fmod(length - first + 1, 6) ~= 0 then return nil end
      kept, base, before = unpacked('>I6I7I4', value, start)
      offset, sum = unpacked('>I4I2', value, length - 5)
      last = base + offset
      local ahead = last - cell + 1
      if ahead > now then
        if ahead - now > period then return nil end
        heldUs = ahead
      end
      local edge = heldUs - period - base
      if offset > edge then
        tail = first
        if unpacked('>I4', value, first) <= edge then
          -- The first entry that is still in the window, and the sum up to the one before it.
          local low, high = 1, (length - first + 1) / 6 - 1
          while low < high do
            local middle = floor((low + high) / 2)
            if unpacked('>I4', value, first + middle * 6) > edge then high = middle else low = middle + 1 end
          end
          tail = first + low * 6
          before = unpacked('>I2', value, tail - 2)
        end
        used = fmod(sum - before + 65536, 65536)
      end
    end
    local total = used + cost
    local text, ms = false, 0
    if total <= capacity then
      local entered = heldUs - fmod(heldUs, cell) + cell - 1
      if used > 0 and entered < last then entered = last end
      -- A log this long after its base is written anew by the general path.
      if used > 0 and entered - base > 4294967295 then return nil end
      if kept * 1000 < entered + period then
        ms = termOf(entered + period, linger)
        kept = nowMs + ms
      end
      if used == 0 then
        text = header .. packed('>I6I7I4I4I2', kept, entered, 0, 0, cost)
      else
        text = header .. packed('>I6I7I4', kept, base, before) .. sub(value, tail, entered == last and -7 or -1)
          .. packed('>I4I2', entered - base, fmod(sum + cost, 65536))
      end
    end
    o = o + 1
    out[o] = used * 2
    if used > 0 then
      o = o + 1
      out[o] = last - now
      if total > capacity and cost <= capacity then
        -- The first entry with whose leaving enough has left.
        local surplus = total - capacity
        local low, high = (tail - first) / 6, (length - first + 1) / 6 - 1
        while low < high do
          local middle = floor((low + high) / 2)
          local reached = fmod(unpacked('>I2', value, first + middle * 6 + 4) - before + 65536, 65536)
          if reached >= surplus then high = middle else low = middle + 1 end
        end
        o = o + 1
        out[o] = base + unpacked('>I4', value, first + low * 6) + period - now
      end
    end
    return text, ms
  end
end

local function windowAt(at)
  local header, linger = ARGV[at], ARGV[at + 1] + 0
  local cost, capacity, period, isCalendar = ARGV[at + 2] + 0, ARGV[at + 3] + 0, ARGV[at + 4] + 0, ARGV[at + 5] == '1'
  local fresh, width, start = isCalendar and now - fmod(now, period) or now, #header + 17, #header + 1
  return function(value)
    local kept, from, used = 0, fresh, 0
    if value then
      if #value ~= width or sub(value, 1, start - 1) ~= header then return nil end
      kept, from, used = unpacked('>I6I7I4', value, start)
      if from + period <= now then from, used = fresh, 0 elseif from - now > period then return nil end
    end
    o = o + 1
    out[o] = used * 2
    if used > 0 then
      o = o + 1
      out[o] = from - now
    end
    if used + cost > capacity then return false end
    local ms = 0
    if kept * 1000 < from + period then
      ms = termOf(from + period, linger)
      kept = nowMs + ms
    end
    return header .. packed('>I6I7I4', kept, from, used + cost), ms
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
      -- A new hash can only be given a time to live once it is there; both are one step to everybody else.
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
-- One check, for which the program was left out: nothing was done, and the caller sends it.
if ARGV[1] == '' then return {} end
