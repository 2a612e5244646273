-- Token bucket: algorithms/token-bucket.ts, whose names and notes hold here too. `us` and `number` are the theoretical
-- arrival time and its part.
local function isAfter(us, part, us2, part2)
  return us > us2 or (us == us2 and part > part2)
end

local function plus(us, part, cost, rule)
  local total = part + cost * rule.intervalPart
  local rest = fmod(total, rule.parts)
  return us + cost * rule.intervalUs + (total - rest) / rule.parts, rest
end

local function isPast(us, part)
  return us < now and (part == 0 or us < now - 1)
end

-- Whether forgetting the bucket changes nothing.
local function isFull(us, part)
  if part == 0 then return us <= now end
  return us + 1 < now
end

-- The bucket as of now, and whether it was set right after the clock was set back far.
local function bucketNow(budget, rule)
  if not budget or isPast(budget.us, budget.number) then return now, 0, false end
  local emptyUs = now + rule.fillUs + rule.horizon
  if budget.us > emptyUs + rule.period then return emptyUs, rule.fillPart, true end
  return budget.us, budget.number, false
end

local function tokensAt(us, part, rule)
  if not isAfter(us, part, now, 0) then return rule.capacity end
  local missing = us - now + part / rule.parts
  local taken = ceil(missing / (rule.intervalUs + rule.intervalPart / rule.parts))
  if taken > rule.capacity + 1 then return 0 end
  local function covers(tokens)
    local fullUs, fullPart = plus(now, 0, tokens, rule)
    return not isAfter(us, part, fullUs, fullPart)
  end
  while not covers(taken) do taken = taken + 1 end
  while taken > 0 and covers(taken - 1) do taken = taken - 1 end
  return math.max(0, rule.capacity - taken)
end

-- `plus` for counts whose product with a part may exceed 2^53.
local function plusMany(us, part, many, rule)
  local low = fmod(many, 32768)
  local high = (many - low) / 32768
  local highParts = high * rule.intervalPart
  local highRest = fmod(highParts, rule.parts)
  local lowParts = part + highRest * 32768 + low * rule.intervalPart
  local rest = fmod(lowParts, rule.parts)
  local carried = ((highParts - highRest) / rule.parts) * 32768 + (lowParts - rest) / rule.parts
  return us + many * rule.intervalUs + carried, rest
end

local function bucketSettle(budget, rule, atUs, charged, actual)
  local us, part = bucketNow(budget, rule)
  if actual > charged then
    local debit = math.min(actual - charged, rule.capacity + rule.limit)
    local rest = fmod(debit, rule.limit)
    local nextUs, nextPart = plusMany(us + (debit - rest) / rule.limit * rule.period, part, rest, rule)
    local deepest = now + rule.fillUs + rule.period
    if isAfter(nextUs, nextPart, deepest, rule.fillPart) then nextUs, nextPart = deepest, rule.fillPart end
    return { us = nextUs, number = nextPart }
  end
  if not budget or isFull(budget.us, budget.number) then return nil end
  local unchanged = { us = us, number = part }
  if atUs > now + rule.fillUs + rule.horizon then return unchanged end
  local leftUs, leftPart = plus(math.min(0, atUs - now), 0, charged, rule)
  local givenUs, givenPart = plus(0, 0, charged - actual, rule)
  if isAfter(givenUs, givenPart, leftUs, leftPart) then givenUs, givenPart = leftUs, leftPart end
  if givenUs < 0 then return unchanged end
  us, part = us - givenUs, part - givenPart
  if part < 0 then us, part = us - 1, part + rule.parts end
  if isFull(us, part) then return nil end
  return { us = us, number = part }
end
