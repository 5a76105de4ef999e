--- `neap repl`: reads a line, runs it as a task, prints what came of it. The
--- REPL itself waits for its input on the loop, so background tasks go on while
--- somebody types.
local errors = require "neap.error"
local inspect = require "neap.cli.inspect"

local M = {
  name = "repl",
  summary = "try Lua line by line; every line may wait",
  usage = "neap repl",
  details = [[
Every line runs as a task, so it may wait; the results are printed and the first
one is kept in `_`. `neap` is a global here. A local lives for its line only: use
globals to keep something. Tasks that a line spawns go on in the background.
Ctrl-C cancels the line that runs, Ctrl-D leaves. Lines are remembered in
~/.neap_history, or the file that NEAP_HISTORY names (empty: nowhere). Without a
terminal the input is read without prompts, and the exit code is 1 if a line
failed.]],
  options = {},
}

local PROMPT, CONTINUATION = "> ", ">> "

--- Whether the text only ended too early. A quoted string cannot go on in the next
--- line.
local function is_cut_off(message)
  return message:match "near '<eof>'$" ~= nil and not message:find("unfinished string", 1, true)
end

--- Compiles a chunk: as an expression when it is one.
---@param text string
---@return function? chunk
---@return "incomplete"|string|nil problem "incomplete" when more lines may mend it
function M.compile(text)
  local source = text:gsub("^%s*=", "return ")
  local chunk, expression_message = loadstring("return " .. source, "=repl")
  if chunk then return chunk end
  local message
  chunk, message = loadstring(source, "=repl")
  if chunk then return chunk end
  if is_cut_off(message) or is_cut_off(expression_message) then return nil, "incomplete" end
  return nil, message
end

--- Frames below the line's own are the REPL's.
local function trim(traceback)
  return (traceback:gsub("\n[^\n]*neap/cli/repl.lua.*$", ""):gsub("\n%s*%[C%]: in function 'xpcall'%s*$", ""))
end

local function describe(err)
  local text = tostring(err)
  local meta = type(err) == "table" and getmetatable(err)
  if type(err) == "table" and not (meta and meta.__tostring) then text = inspect.inspect(err) end
  return text
end

local function on_error(err)
  if errors.is(err, "cancelled") then return { err = "cancelled", traceback = "" } end
  local traceback = trim(debug.traceback("", 2))
  local lines = select(2, traceback:gsub("\n", ""))
  return { err = err, traceback = lines > 2 and traceback or "" }
end

local function pack(...)
  return { n = select("#", ...), ... }
end

local Repl = {}
Repl.__index = Repl

--- Runs one compiled line as a task of the session and prints its results.
---@return boolean ok
function Repl:run(chunk)
  local outcome
  local task = self.scope:spawn(function() outcome = pack(xpcall(chunk, on_error)) end)
  task:set_name "line"
  self.input:while_running(function() task:cancel() end, function()
    -- A deadlock is raised here, in the session, that waits for the line.
    local waited, err = pcall(task.await, task)
    if not waited then
      task:cancel()
      pcall(task.await, task)
      outcome = { n = 2, false, { err = err, traceback = "" } }
    end
  end)
  if not outcome then outcome = { n = 2, false, { err = "cancelled", traceback = "" } } end
  if not outcome[1] then
    self.input:report(describe(outcome[2].err) .. outcome[2].traceback)
    return false
  end
  if outcome.n > 1 then
    rawset(_G, "_", outcome[2])
    self.input:print(inspect.values(outcome.n - 1, unpack(outcome, 2, outcome.n)))
  end
  return true
end

--- Reads one chunk, over several lines when the first is incomplete.
---@return function? chunk
---@return "eof"|"skip"|string|nil problem
function Repl:read()
  local text, event = self.input:read_line(PROMPT)
  while text do
    local chunk, problem = M.compile(text)
    if problem ~= "incomplete" then return chunk, problem end
    local line
    line, event = self.input:read_line(CONTINUATION)
    if line == nil then
      if event == "eof" then
        return nil, select(2, loadstring(text, "=repl")) or "the input ends in the middle of a chunk"
      end
      break
    end
    text = text .. "\n" .. line
  end
  return nil, event == "eof" and "eof" or "skip"
end

function Repl:loop()
  local failed = false
  while true do
    failed = self:report_failures(self.scope:take_failures()) or failed
    local chunk, problem = self:read()
    if problem == "eof" then break end
    if chunk then
      failed = not self:run(chunk) or failed
    elseif problem ~= "skip" then
      self.input:report(problem)
      failed = true
    end
  end
  return failed
end

--- Tells which background tasks failed.
---@param failures table[]? errors
---@return boolean any
function Repl:report_failures(failures)
  for _, err in ipairs(failures or {}) do
    self.input:report(("task: %s%s"):format(describe(err), err.traceback and "\n" .. trim(err.traceback) or ""))
  end
  return failures ~= nil and #failures > 0
end

---@param _ table
---@param rest string[]
---@return integer? code
---@return string? message
function M.main(_, rest)
  if rest[1] then return 2, ("repl takes no argument, got '%s'"):format(rest[1]) end
  local neap = require "neap"
  rawset(_G, "neap", neap)
  rawset(_G, "arg", { [0] = "repl" })
  local session = setmetatable({ input = require("neap.cli.repl_input").open() }, Repl)
  session.input:banner("neap: every line may wait; locals live for one line; ctrl-d leaves")
  local failed, late = neap.scope(function(scope)
    session.scope = scope
    local any = session:loop()
    if session.input.interactive then scope:cancel() end
    return any
  end, { on_error = "collect" })
  -- Tasks that went on when the input had ended.
  if not session.input.interactive then failed = session:report_failures(late) or failed end
  session.input:close()
  return failed and not session.input.interactive and 1 or 0
end

return M
