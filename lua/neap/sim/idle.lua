--- A simulated script that only serves: nobody will ever ask it, and time has no
--- reason to go on. The core calls that a deadlock and lists who waits for what;
--- where those are servers and who waits for them, it is said in one line. Pure.
local M = {}

--- What a server's task and those who wait for its end say of themselves in the
--- report (runtime/bind/lua_report.c).
local SERVER = "^  task server on port (%d+) waits for event at "
local FOR_OTHERS = { "^  task .+ waits for the tasks of its scope at ", "^  task .+ waits for a task at " }

local function waits_for_others(line)
  for _, pattern in ipairs(FOR_OTHERS) do
    if line:find(pattern) then return true end
  end
  return false
end

--- The ports on which idle servers listen; nil when anybody else waits, too.
local function idle_ports(text)
  local ports = {}
  for line in text:gmatch "[^\n]+" do
    local port = line:match(SERVER)
    if port then
      ports[#ports + 1] = tonumber(port)
    elseif line:find "^%s" and not waits_for_others(line) then
      return nil
    end
  end
  table.sort(ports)
  return #ports > 0 and ports or nil
end

--- One line for an error that is such a deadlock; nil for any other one.
---@param err any
---@return string?
function M.message(err)
  local text = type(err) == "table" and err.message or err
  if type(text) ~= "string" or not text:find("^deadlock: ") then return nil end
  local ports = idle_ports(text)
  if not ports then return nil end
  return ("nobody is left to ask the script, which still serves on port%s %s; server:stop() ends a server"):format(
    #ports > 1 and "s" or "", table.concat(ports, ", "))
end

return M
