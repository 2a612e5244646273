-- A fixed window's parameters: header linger cost capacity period calendar (1 or 0).
local header, linger = ARGV[at], ARGV[at + 1] + 0
local cost, capacity, period, isCalendar = ARGV[at + 2] + 0, ARGV[at + 3] + 0, ARGV[at + 4] + 0, ARGV[at + 5] == '1'
local fresh, width, start = isCalendar and now - fmod(now, period) or now, #header + 17, #header + 1
