-- A sliding window's parameters: header linger cost capacity period cell.
local header, linger = ARGV[at], ARGV[at + 1] + 0
local cost, capacity, period, cell = ARGV[at + 2] + 0, ARGV[at + 3] + 0, ARGV[at + 4] + 0, ARGV[at + 5] + 0
local start = #header + 1
local first = start + 17
