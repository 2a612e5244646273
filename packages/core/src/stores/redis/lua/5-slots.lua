-- Concurrency: algorithms/concurrency.ts. Returns the leases that hold as of now, the slots they hold, when the last of them
-- ends, and whether one was set right after the clock was set back far.
local function leasesNow(leases, rule)
  local live = { fence = {}, slots = {}, expires = {}, n = 0, last = leases and leases.last or 0 }
  local held, lastUs, changed = 0, now, false
  local latest = now + rule.lease
  for i = 1, leases and leases.n or 0 do
    local expires = leases.expires[i]
    if expires > now then
      if expires > latest + rule.lease then expires, changed = latest, true end
      live.n = live.n + 1
      live.fence[live.n], live.slots[live.n], live.expires[live.n] = leases.fence[i], leases.slots[i], expires
      held = held + leases.slots[i]
      lastUs = math.max(lastUs, expires)
    end
  end
  return live, held, lastUs, changed
end

-- Fences also rise when this server has lost what it knew: none is below the present.
local function lend(live, slots, rule)
  local n, fence = live.n + 1, math.max(live.last + 1, now)
  live.n, live.last = n, fence
  live.fence[n], live.slots[n], live.expires[n] = fence, slots, now + rule.lease
  return fence
end

local function indexOf(live, fence)
  for i = 1, live.n do
    if live.fence[i] == fence then return i end
  end
end

local function giveBack(live, i)
  table.remove(live.fence, i)
  table.remove(live.slots, i)
  table.remove(live.expires, i)
  live.n = live.n - 1
end

-- How long until leases of `missing` slots together have run out.
local function freeIn(live, missing)
  local order = {}
  for i = 1, live.n do order[i] = i end
  table.sort(order, function(a, b) return live.expires[a] < live.expires[b] end)
  for _, i in ipairs(order) do
    missing = missing - live.slots[i]
    if missing <= 0 then return live.expires[i] - now end
  end
end
