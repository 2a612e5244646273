-- The operations, in order, one key after the other. Each is a list of whole numbers:
--
--   1 rule cost times     consume up to `times` times            summary, [fence], [refusal]
--   2 rule cost           peek                                   summary, [refusal]
--   3 rule most           consume as much of `most` as there is  summary, [refusal of cost 1]
--   4 n keys (key rule cost)*n     consume all or nothing, with the numbers of the group's own keys from 1
--                                                                n times (summary, [refusal]), then the fences
--   5 rule at charged actual   settle
--   6 rule length         block
--   7 rule fence          renew                                  1 when renewed, else 0
--   8 rule fence          release                                1 when released, else 0
--   9 rule                reset
--
-- and each is followed by the number of keys (or groups of keys) it is done to; 0 for all that are left.
--
--   summary  = number·2 + blocked, [instant], [block's end, block's length]      before the operation; instants less the present
--              token bucket: the arrival time, and its part if it has one; others: what is used or held, and if that is not 0
--              the last entry, the start of the window or the end of the last lease
--   refusal  = how long until the cost would be admitted; for logs and slots only, and not for what never will be
local function push(number)
  o = o + 1
  out[o] = number
end

-- The budget as of now, and whether that differs from what is stored for good.
local function viewOf(state, rule)
  local budget, view, moved = state.budget, {}, false
  if rule.kind == BUCKET then
    view.us, view.number, moved = bucketNow(budget, rule)
    view.left = tokensAt(view.us, view.number, rule)
    view.first, view.second = view.us - now, rule.parts > 1 and view.number or nil
  elseif rule.kind == LOG then
    view.log, view.heldUs, view.used, view.whole = logNow(budget, rule)
    moved = view.whole ~= nil
  elseif rule.kind == WINDOW then
    view.us, view.used, moved = windowNow(budget, rule)
  else
    view.live, view.used, view.lastUs, moved = leasesNow(budget, rule)
  end
  if view.used then
    view.left = rule.capacity - view.used
    view.first = view.used
    if view.used > 0 then view.second = (view.us or view.lastUs or view.log.at[view.log.n]) - now end
  end
  return view, moved
end

local function summarise(state, view, isBlocked)
  push(view.first * 2 + (isBlocked and 1 or 0))
  if view.second then push(view.second) end
  if isBlocked then
    push(state.untilUs - now)
    push(state.forUs)
  end
end

local function refuse(view, rule, cost)
  if view.left >= cost or cost > rule.capacity then return end
  if rule.kind == LOG then push(leavingIn(view.log, cost - view.left, rule)) end
  if rule.kind == SLOTS then push(freeIn(view.live, cost - view.left)) end
end

-- The budget as of now, less `cost`; returns the fence of a lease.
local function debit(state, view, rule, cost)
  view.left = view.left - cost
  if rule.kind == BUCKET then
    local us, part = plus(view.us, view.number, cost, rule)
    state.budget = { us = us, number = part }
  elseif rule.kind == LOG then
    state.budget = cost > 0 and enter(view.log, view.heldUs, cost, rule) or view.whole or state.budget
  elseif rule.kind == WINDOW then
    state.budget = { us = view.us, number = view.used + cost }
  else
    state.budget = view.live
    if cost > 0 then return lend(view.live, cost, rule) end
  end
end

local function consume(key, rule, cost, times, upTo)
  local state = load(key, rule)
  local isBlocked, isChanged = blockNow(state)
  local view, moved = viewOf(state, rule)
  summarise(state, view, isBlocked)
  local granted = 0
  if not isBlocked then
    if upTo then cost = math.max(1, math.min(upTo, view.left)) end
    granted = math.max(0, math.min(times, floor(view.left / cost)))
    if granted > 0 or moved or state.isConverted then
      local fence = debit(state, view, rule, granted * cost)
      if fence then push(fence) end
      isChanged = true
    end
  end
  if granted < times then refuse(view, rule, cost) end
  if isChanged then keep(key, state, rule) end
end

local function consumeAll(at, next, n)
  local draws, areAll = {}, true
  for i = 1, n do
    local own = at + 3 * i
    local key, rule, cost = KEYS[next + operations[own] - 1], rules[operations[own + 1]], operations[own + 2]
    local state = load(key, rule)
    local isBlocked = blockNow(state)
    local view = viewOf(state, rule)
    summarise(state, view, isBlocked)
    refuse(view, rule, cost)
    areAll = areAll and not isBlocked and view.left >= cost
    draws[i] = { key = key, rule = rule, cost = cost, state = state, view = view }
  end
  if not areAll then return end
  for _, draw in ipairs(draws) do
    local fence = debit(draw.state, draw.view, draw.rule, draw.cost)
    if fence then push(fence) end
    keep(draw.key, draw.state, draw.rule)
  end
end

local function settle(key, rule, atUs, charged, actual)
  local state = load(key, rule)
  local settled = rule.kind == BUCKET and bucketSettle or rule.kind == LOG and logSettle or windowSettle
  state.budget = settled(state.budget, rule, atUs, charged, actual)
  keep(key, state, rule)
end

local function block(key, rule, forUs)
  local state = load(key, rule)
  local isBlocked = blockNow(state)
  local length = math.min(forUs, 86400000000)
  if length == 0 then
    state.untilUs, state.forUs = nil, nil
  elseif not isBlocked or state.untilUs < now + length then
    state.untilUs, state.forUs = now + length, length
  end
  keep(key, state, rule)
end

local function renewOrRelease(key, rule, fence, isRenewal)
  local state = load(key, rule)
  local live, _, _, moved = leasesNow(state.budget, rule)
  local i = indexOf(live, fence)
  push(i and 1 or 0)
  if not i and not moved then return end
  if i and isRenewal then live.expires[i] = now + rule.lease end
  if i and not isRenewal then giveBack(live, i) end
  state.budget = live
  keep(key, state, rule)
end

local function reset(key, rule)
  local state = load(key, rule)
  state.untilUs, state.forUs = nil, nil
  if rule.kind ~= SLOTS then state.budget = nil end
  -- The last fence stays, so that the next one is above it.
  if state.budget then state.budget.n = 0 end
  keep(key, state, rule)
end

local arity = { 4, 3, 3, 0, 5, 3, 3, 3, 2 }
local at, next = 1, done + 1
while operations[at] do
  local operation, first, second, third, fourth = unpack(operations, at, at + 4)
  local rule = rules[first]
  local length = operation == 4 and 3 + 3 * first or arity[operation]
  local again = operations[at + length]
  while again > 0 or (again == 0 and next <= count) do
    local key = KEYS[next]
    if operation == 1 then consume(key, rule, second, third)
    elseif operation == 2 then
      local state = load(key, rule)
      local isBlocked = blockNow(state)
      local view = viewOf(state, rule)
      summarise(state, view, isBlocked)
      refuse(view, rule, second)
    elseif operation == 3 then consume(key, rule, 1, 1, second)
    elseif operation == 4 then consumeAll(at, next, first)
    elseif operation == 5 then settle(key, rule, second, third, fourth)
    elseif operation == 6 then block(key, rule, second)
    elseif operation == 7 then renewOrRelease(key, rule, second, true)
    elseif operation == 8 then renewOrRelease(key, rule, second, false)
    else reset(key, rule) end
    next = next + (operation == 4 and second or 1)
    if again > 0 then
      again = again - 1
      if again == 0 then break end
    end
  end
  at = at + length + 1
end
return out
