-- Sliding window: algorithms/sliding-window.ts. Returns the entries that count, the present as it is held, their sum, and
-- the whole log if it was set right after the clock was set back far.
local function logNow(log, rule)
  local window = { at = {}, cost = {}, n = 0 }
  if not log or log.n == 0 then return window, now, 0, nil end
  local shift = 0
  local ahead = log.at[log.n] - rule.cell + 1 - now
  if ahead > rule.period then shift = ahead - fmod(ahead, rule.cell) end
  local heldUs = math.max(now, log.at[log.n] - shift - rule.cell + 1)
  local used = 0
  if shift ~= 0 then
    local moved = { at = {}, cost = log.cost, n = log.n }
    for i = 1, log.n do moved.at[i] = log.at[i] - shift end
    log = moved
  end
  for i = 1, log.n do
    local at = log.at[i]
    if at > heldUs - rule.period then
      window.n = window.n + 1
      window.at[window.n], window.cost[window.n] = at, log.cost[i]
      used = used + log.cost[i]
    end
  end
  return window, heldUs, used, shift ~= 0 and log or nil
end

local function enter(window, heldUs, cost, rule)
  local cellEnd = heldUs - fmod(heldUs, rule.cell) + rule.cell - 1
  local n = window.n
  if n > 0 and cellEnd <= window.at[n] then
    window.cost[n] = window.cost[n] + cost
  else
    window.n = n + 1
    window.at[n + 1], window.cost[n + 1] = cellEnd, cost
  end
  return window
end

-- How long until entries of `surplus` together have left the window.
local function leavingIn(window, surplus, rule)
  for i = 1, window.n do
    surplus = surplus - window.cost[i]
    if surplus <= 0 then return window.at[i] + rule.period - now end
  end
end

local function logSettle(log, rule, atUs, charged, actual)
  local window, heldUs, used = logNow(log, rule)
  local extra = actual - charged
  if extra > 0 then
    local debit = math.min(extra, 2 * rule.capacity - used)
    return debit > 0 and enter(window, heldUs, debit, rule) or window
  end
  local kept = { at = {}, cost = {}, n = 0 }
  for i = 1, window.n do
    local cost = window.cost[i]
    if window.at[i] == atUs then cost = math.max(0, cost + extra) end
    if cost > 0 then
      kept.n = kept.n + 1
      kept.at[kept.n], kept.cost[kept.n] = window.at[i], cost
    end
  end
  return kept
end

-- Fixed window: algorithms/fixed-window.ts. `us` and `number` are its start and what was used. Returns these as of now, and
-- whether the window was set right after the clock was set back far.
local function windowNow(budget, rule)
  local start = rule.calendar and now - fmod(now, rule.period) or now
  if not budget or budget.number == 0 or budget.us + rule.period <= now then return start, 0, false end
  if budget.us - now <= rule.period then return budget.us, budget.number, false end
  return rule.calendar and start + rule.period or start, budget.number, true
end

local function windowSettle(budget, rule, atUs, charged, actual)
  local start, used = windowNow(budget, rule)
  local extra = actual - charged
  if extra > 0 then
    used = math.max(used, math.min(used + extra, 2 * rule.capacity))
  elseif start <= atUs and atUs < start + rule.period then
    used = math.max(0, used + extra)
  end
  return { us = start, number = used }
end
