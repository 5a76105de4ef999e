--- What the specs of `neap batch` share: a mock server as a child process, input
--- files, and output read back. Real time only.
local assert = require "luassert"
local child = require "spec.support.child"
local json = require "neap.json"
local neap = require "neap"
local tmp = require "spec.support.tmp"

local M = {}

local opened = {}

--- A directory that is gone after the test.
---@return string
function M.dir()
  local dir = tmp.dir()
  opened[#opened + 1] = function() tmp.remove(dir) end
  return dir
end

---@class spec.Mock
---@field url string
local Mock = {}
Mock.__index = Mock

--- Starts `neap mock` on a free port. Waits.
---@param ... string further arguments
---@return spec.Mock
function M.mock(...)
  local process = child.start { "mock", "--port", "0", ... }
  process:wait_for "\n"
  local self = setmetatable({ process = process, client = assert(neap.http.client {}),
    url = process.out:match "^listening on (http://[%d.:]+)\n" }, Mock)
  opened[#opened + 1] = function()
    self.client:close()
    process:kill "sigterm"
    process:wait()
  end
  return self
end

--- What arrived at the mock.
---@return table
function Mock:stats()
  return assert(assert(self.client:get(self.url .. "/stats")):json())
end

--- For after_each: ends and removes what the test opened.
function M.finish()
  local list = opened
  opened = {}
  for i = #list, 1, -1 do list[i]() end
end

--- One line of input, without a line end.
---@param id string
---@param url? string
---@return string
function M.line(id, url)
  return ('{"custom_id":"%s","method":"POST","url":"%s","body":{"model":"m","messages":[{"role":"user",'
    .. '"content":"question %s"}]}}'):format(id, url or "/v1/chat/completions", id)
end

--- An input file of n lines with the ids r1 to rn in `dir`.
---@param dir string
---@param n integer
---@return string path
function M.input(dir, n)
  local list = {}
  for i = 1, n do list[i] = M.line("r" .. i) end
  list[n + 1] = ""
  return tmp.write(dir .. "/in.jsonl", table.concat(list, "\n"))
end

--- The rows of an output file; every line must be whole and JSON.
---@param path string
---@return table[]
function M.rows(path)
  local text, list = assert(tmp.read(path)), {}
  assert.is_true(text == "" or text:sub(-1) == "\n", "the last line is not whole")
  for line in text:gmatch "([^\n]*)\n" do
    local row, err = json.decode(line)
    assert.is_nil(err, line)
    list[#list + 1] = row
  end
  return list
end

--- The rows by custom_id; none may be there twice.
---@param rows table[]
---@return table<string, table>
function M.by_id(rows)
  local found = {}
  for _, row in ipairs(rows) do
    assert.is_nil(found[row.custom_id], row.custom_id .. " is there twice")
    found[row.custom_id] = row
  end
  return found
end

return M
