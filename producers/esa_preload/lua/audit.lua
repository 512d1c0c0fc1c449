-- Who changed what: an entry a change, written by the script that makes it. Included after prelude.lua. O(1).
local AUDIT_MOST = 10000 -- entries that are kept, about
local AUDIT_MS = string.format('%.0f', 90 * 86400000)

local function note_change(action, actor, about)
  local key = P .. 'audit'
  call('XADD', key, 'MAXLEN', '~', AUDIT_MOST, '*', 'at', text(now), 'action', action, 'actor', actor, 'source', about.source or '',
    'site', about.site or '', 'request', about.request or '', 'detail', about.detail or '')
  call('PEXPIRE', key, AUDIT_MS)
end
