-- One key: its block and its budget, read from the store and kept there. A value that is not ours counts as none, is counted
-- in the answer, and is overwritten when there is something to keep.
local function foreign()
  out[2] = out[2] + 1
end

-- What was consumed stays consumed when a limit gets another rate: `rateConvert` of algorithms/policy.ts.
local function converted(budget, from, to)
  if from.kind == SLOTS or to.kind == SLOTS then return from.kind == to.kind and budget or nil end
  if from.kind == to.kind and to.kind ~= BUCKET then return budget end
  local left
  if from.kind == BUCKET then
    local us, part = bucketNow(budget, from)
    left = tokensAt(us, part, from)
  elseif from.kind == LOG then
    local _, _, used = logNow(budget, from)
    left = from.capacity - used
  else
    local _, used = windowNow(budget, from)
    left = from.capacity - used
  end
  local missing = math.min(from.capacity - math.max(0, left), to.capacity)
  if missing == 0 then return nil end
  if to.kind == BUCKET then
    local us, part = plus(now, 0, missing, to)
    return { us = us, number = part }
  end
  if to.kind == LOG then return enter({ at = {}, cost = {}, n = 0 }, now, missing, to) end
  local start = windowNow(nil, to)
  return { us = start, number = missing }
end

local function load(key, rule)
  local state = {}
  local value = attempt('HGET', key, rule.field)
  if not value then return state end
  if type(value) == 'table' then
    foreign()
    state.isForeign = true
    return state
  end
  local from = 1
  if byte(value) == 66 and #value >= 19 then
    state.untilUs, state.forUs = unpacked('>I7I5', value, 2)
    from = 14
    if #value == 19 then
      state.kept = unpacked('>I6', value, 14)
      return state
    end
  end
  if sub(value, from, from + #rule.header - 1) == rule.header then
    state.budget, state.kept = readPayload(value, from + #rule.header, rule)
  else
    local budget, kept, was = readBudget(value, from)
    if budget then
      state.budget, state.kept = converted(budget, was, rule), kept
      state.isConverted = true
    end
  end
  if not state.kept then
    foreign()
    return {}
  end
  return state
end

-- Until when a budget differs from one never used.
local function neededUntil(budget, rule)
  if rule.kind == BUCKET then return budget.us + 2 end
  if rule.kind == WINDOW then return budget.us + rule.period end
  if rule.kind == LOG then return budget.at[budget.n] + rule.period end
  -- An hour beyond the last lease, so that a clock set back meanwhile does not take the fences with it.
  local last = now
  for i = 1, budget.n do last = math.max(last, budget.expires[i]) end
  return last + 3600000000
end

local function keep(key, state, rule)
  local budget, untilUs = state.budget, state.untilUs or 0
  if budget and ((rule.kind == LOG and budget.n == 0) or (rule.kind == WINDOW and budget.number == 0)) then
    budget = nil
  end
  if budget then untilUs = math.max(untilUs, neededUntil(budget, rule)) end
  if state.isForeign then call('DEL', key) end
  if untilUs == 0 then
    call('HDEL', key, rule.field)
    return
  end
  local kept, ms, text = state.kept or 0, 0, nil
  if kept * 1000 < untilUs then
    ms = math.max(0, ceil((untilUs - now) / 1000)) + 1 + rule.linger
    kept = floor(now / 1000) + ms
  end
  if not budget then
    text = packed('>I6', kept)
  elseif rule.kind == LOG then
    text = writeLog(budget, rule, kept)
  elseif rule.kind == SLOTS then
    text = writeLeases(budget, kept)
  else
    text = rule.header .. packed('>I6I7I4', kept, budget.us, budget.number)
  end
  if state.untilUs then text = 'B' .. packed('>I7I5', state.untilUs, state.forUs) .. text end
  call('HSET', key, rule.field, text)
  if ms > 0 then extend(key, ms) end
end

-- The block as of now: algorithms/block.ts. Returns whether it holds, and whether it was over or set right.
local function blockNow(state)
  if not state.untilUs then return false, false end
  if state.untilUs <= now then
    state.untilUs, state.forUs = nil, nil
    return false, true
  end
  if state.untilUs - now <= 2 * state.forUs then return true, false end
  state.untilUs = now + state.forUs
  return true, true
end
