#!lua flags=allow-oom
-- Say what became of calls that no other script reports, since their claim is lost. ARGV: 2... operation, sent, outcome, hint in ms ...
-- Returns how many. O(calls).
local count = report_calls(2)
arm_next()
return count
