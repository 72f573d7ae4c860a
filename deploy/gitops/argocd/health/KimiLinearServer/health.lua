-- Tells Argo CD what the conditions of a KimiLinearServer mean. Argo CD's interpreter has no library `string`.
local hs = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return hs
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions.Ready, conditions.Stalled
if ready == nil then
  return hs
end
hs.message = ready.reason .. ": " .. ready.message
if stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = stalled.reason .. ": " .. stalled.message
elseif ready.status == "True" or ready.reason == "Suspended" or ready.reason == "NoReplicas"
  or ready.reason == "ScaledToZero" then
  -- A sync would wait for a Suspended resource for ever, and later commits would wait for this sync.
  hs.status = "Healthy"
end
return hs
