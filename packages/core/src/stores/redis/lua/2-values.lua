-- From here on everything is possible, one check at a time. This part reads and writes values.
--
--   value    = [block] budget | block kept:I6                        kept: until when its key is kept at least, in ms
--   block    = 'B' until:I7 length:I5
--   budget   = header kept:I6 tat:I7 part:I4                            token bucket, tag t
--            | header kept:I6 base:I7 before:I4 (offset:I4 sum:I2)*     sliding window, tag s; offsets from base, running sums
--            | header kept:I6 base:I7 before:I4 (offset:I7 sum:I4)*     the same, tag l, for long periods and large limits
--            | header kept:I6 start:I7 used:I4                          fixed window, tag f (first request) or c (calendar)
--            | 'k:' kept:I6 fence:I7 (fence:I7 slots:I4 expires:I7)*    concurrency
--   header   = tag limit '.' period '.' capacity ':'                    base 36: the rate it was kept under
--
-- Instants are microseconds since 1970. The header is beside the state because a limit may get another rate: the number of
-- tokens that a bucket lacks can only be told by the rate it was kept under.
local program = cjson.decode(ARGV[2])
local rules, operations, byte = program[1], program[2], string.byte
local BUCKET, LOG, WINDOW, SLOTS = 1, 2, 3, 4
local kinds = { t = BUCKET, s = LOG, l = LOG, f = WINDOW, c = WINDOW }

local function gcd(a, b)
  while b ~= 0 do a, b = b, fmod(a, b) end
  return a
end

-- A bucket's emission interval, as whole microseconds and a part of one.
local function interval(rule)
  local shared = gcd(rule.period, rule.limit)
  rule.parts = rule.limit / shared
  rule.intervalPart = fmod(rule.period / shared, rule.parts)
  rule.intervalUs = (rule.period / shared - rule.intervalPart) / rule.parts
  local over = rule.capacity * rule.intervalPart
  rule.fillPart = fmod(over, rule.parts)
  rule.fillUs = rule.capacity * rule.intervalUs + (over - rule.fillPart) / rule.parts
end

-- The rule of a header, as far as a state needs it.
local function ruleOf(tag, limit, period, capacity)
  local rule = {
    kind = kinds[tag], calendar = tag == 'c', wide = tag == 'l', horizon = 0,
    limit = tonumber(limit, 36), period = tonumber(period, 36), capacity = tonumber(capacity, 36),
  }
  if not (rule.limit and rule.period and rule.capacity) then return rule end
  rule.cell = rule.limit <= 1000 and 1 or ceil(rule.period / 100)
  if rule.kind == BUCKET then interval(rule) end
  return rule
end

local function readLog(value, from, wide)
  local log = { at = {}, cost = {}, n = 0 }
  local base, before = unpacked('>I7I4', value, from)
  local width, modulus = wide and 11 or 6, wide and 4294967296 or 65536
  local form = wide and '>I7I4' or '>I4I2'
  before = fmod(before, modulus)
  for position = from + 11, #value, width do
    local offset, sum = unpacked(form, value, position)
    log.n = log.n + 1
    log.at[log.n] = base + offset
    log.cost[log.n] = fmod(sum - before + modulus, modulus)
    before = sum
  end
  return log
end

local function writeLog(log, rule, kept)
  local sum = 0
  for i = 1, log.n do sum = sum + log.cost[i] end
  -- A lowered limit leaves more in the log than the short form may hold.
  local wide = rule.wide or sum > 65535
  local form = wide and '>I7I4' or '>I4I2'
  local parts = { rule.header, packed('>I6I7I4', kept, log.at[1], 0) }
  if wide ~= rule.wide then parts[1] = 'l' .. sub(rule.header, 2) end
  sum = 0
  for i = 1, log.n do
    sum = sum + log.cost[i]
    parts[i + 2] = packed(form, log.at[i] - log.at[1], sum)
  end
  return table.concat(parts)
end

local function readLeases(value, from)
  local leases = { fence = {}, slots = {}, expires = {}, n = 0 }
  leases.last = unpacked('>I7', value, from)
  for position = from + 7, #value, 18 do
    leases.n = leases.n + 1
    leases.fence[leases.n], leases.slots[leases.n], leases.expires[leases.n] = unpacked('>I7I4I7', value, position)
  end
  return leases
end

local function writeLeases(leases, kept)
  local parts = { 'k:', packed('>I6I7', kept, leases.last) }
  for i = 1, leases.n do
    parts[i + 2] = packed('>I7I4I7', leases.fence[i], leases.slots[i], leases.expires[i])
  end
  return table.concat(parts)
end

-- A budget from `from` on, behind its header, with its `kept`; nil when it is broken.
local function readPayload(value, from, rule)
  local rest = #value - from + 1 - 6
  if rest < 0 then return nil end
  local kept = unpacked('>I6', value, from)
  from = from + 6
  if rule.kind == SLOTS then
    if rest < 7 or fmod(rest - 7, 18) ~= 0 then return nil end
    return readLeases(value, from), kept
  end
  rest = rest - 11
  if rule.kind == LOG then
    local width = rule.wide and 11 or 6
    if rest < width or fmod(rest, width) ~= 0 then return nil end
    return readLog(value, from, rule.wide), kept
  end
  if rest ~= 0 then return nil end
  local us, number = unpacked('>I7I4', value, from)
  return { us = us, number = number }, kept
end

-- The budget in a value from `from` on, its `kept`, and the rule it was kept under; nil when it is not one of ours.
local function readBudget(value, from)
  if sub(value, from, from + 1) == 'k:' then
    local slots = { kind = SLOTS }
    local leases, kept = readPayload(value, from + 2, slots)
    return leases, kept, slots
  end
  local tag, limit, period, capacity, start = string.match(value, '^(%l)(%w+)%.(%w+)%.(%w+):()', from)
  if not tag or not kinds[tag] then return nil end
  local rule = ruleOf(tag, limit, period, capacity)
  local budget, kept = readPayload(value, start, rule)
  return budget, kept, rule
end
