-- Tells Argo CD what the conditions of a KimiLinearBenchmark mean. Argo CD's interpreter has no library `string`.
local hs = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return hs
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local succeeded, stalled = conditions.Succeeded, conditions.Stalled
if succeeded == nil then
  return hs
end
hs.message = succeeded.reason .. ": " .. succeeded.message
if succeeded.status == "False" then
  hs.status = "Degraded"
elseif stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = stalled.reason .. ": " .. stalled.message
elseif succeeded.status == "True" then
  hs.status = "Healthy"
elseif succeeded.reason == "Suspended" then
  hs.status = "Suspended"
end
return hs
