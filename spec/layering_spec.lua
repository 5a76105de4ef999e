-- SPDX-License-Identifier: MIT
-- The house rules that a reader relies on, checked against the sources: who may
-- include whom, where each foreign library appears, what the library never does.
local lfs = require "lfs"
local repository = require "spec.support.repository"

local read, root = repository.read, repository.root

local FOLDERS = { "base", "bind", "cmake", "core", "examples", "flow", "include", "net" }
local LEVEL = { base = 0, core = 1, flow = 2, net = 2, bind = 3 }
local TOP = {
  [".ci"] = true, [".clang-format"] = true, [".editorconfig"] = true, [".gitignore"] = true,
  [".busted"] = true, [".luacheckrc"] = true, ["CHANGELOG.md"] = true, ["CMakeLists.txt"] = true,
  ["CMakePresets.json"] = true, ["CONTRIBUTING.md"] = true, ["LICENSE"] = true,
  ["README.md"] = true, ["SECURITY.md"] = true, bench = true, dev = true, docs = true,
  lua = true, runtime = true, scripts = true, spec = true,
}
-- The C and POSIX headers that base may use: libc and nothing else.
local LIBC = {}
for name in ([[assert ctype errno fcntl float inttypes limits math pthread signal stdarg stdatomic stdbool
  stddef stdint stdio stdlib string strings sys/mman sys/random sys/resource sys/stat sys/time sys/types
  sys/uio time unistd immintrin]]):gmatch "%S+" do
  LIBC[name .. ".h"] = true
end

--- Calls visit(path) for every file under dir.
local function walk(dir, visit)
  for name in lfs.dir(root .. dir) do
    if name ~= "." and name ~= ".." then
      local path = dir .. "/" .. name
      if lfs.attributes(root .. path, "mode") == "directory" then
        walk(path, visit)
      else
        visit(path)
      end
    end
  end
end

local function files(dir, pattern)
  local list = {}
  walk(dir, function(path)
    if path:find(pattern) then list[#list + 1] = path end
  end)
  table.sort(list)
  return list
end

--- C source without comments and string literals, so that a word in them is no
--- breach. Line breaks stay.
local function code_of(text)
  local out, i, n = {}, 1, #text
  while i <= n do
    local start = text:find("[/\"']", i)
    if not start then
      out[#out + 1] = text:sub(i)
      break
    end
    out[#out + 1] = text:sub(i, start - 1)
    local two = text:sub(start, start + 1)
    local stop
    if two == "/*" then
      stop = select(2, text:find("*/", start + 2, true)) or n
    elseif two == "//" then
      stop = (text:find("\n", start, true) or n + 1) - 1
    elseif text:sub(start, start) == "/" then
      out[#out + 1] = "/"
      stop = start
    else
      local quote = text:sub(start, start)
      stop = start + 1
      while stop <= n and text:sub(stop, stop) ~= quote do
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
    end
    out[#out + 1] = text:sub(start, stop):gsub("[^\n]", "")
    i = stop + 1
  end
  return table.concat(out)
end

--- One source of runtime/: where it belongs and what it includes.
local function load_source(path)
  local text = read(path)
  local inner = path:match "^runtime/(.*)$"
  local source = {
    path = inner, text = text, code = code_of(text), folder = inner:match "^([^/]+)/" or "",
    module = inner:match "([^/]+)%.[ch]$", own = {}, foreign = {},
  }
  for line in text:gmatch "[^\n]+" do
    local quoted = line:match '^%s*#%s*include%s*"([^"]+)"'
    local angled = line:match "^%s*#%s*include%s*<([^>]+)>"
    if quoted then source.own[#source.own + 1] = quoted end
    if angled then source.foreign[#source.foreign + 1] = angled end
  end
  return source
end

local sources = {}
for _, path in ipairs(files("runtime", "%.[ch]$")) do sources[#sources + 1] = load_source(path) end

--- All breaches at once, one line each: a list says more than the first.
local function assert_none(breaches)
  assert.message("\n" .. table.concat(breaches, "\n")).are.equal(0, #breaches)
end

--- Collects what check(source) returns for every source.
local function breaches_of(check)
  local breaches = {}
  for _, source in ipairs(sources) do
    for _, breach in ipairs { check(source) } do breaches[#breaches + 1] = source.path .. ": " .. breach end
  end
  return breaches
end

--- Breaches: foreign headers matching one of the patterns outside `allowed`.
local function foreign_only_in(patterns, allowed)
  return breaches_of(function(source)
    local found = {}
    for _, header in ipairs(source.foreign) do
      for _, pattern in ipairs(patterns) do
        if header:find(pattern) and not allowed(source) then found[#found + 1] = "includes <" .. header .. ">" end
      end
    end
    return unpack(found)
  end)
end

--- Breaches: calls of a function outside `allowed`.
local function called_only_in(names, allowed)
  return breaches_of(function(source)
    local found = {}
    for name in names:gmatch "%S+" do
      if not allowed(source) and source.code:find("%f[%w_]" .. name .. "%s*%(") then
        found[#found + 1] = "calls " .. name
      end
    end
    return unpack(found)
  end)
end

--- "http" for http_pool: a module and its parts share the first word.
local function concept(module) return module:match "^[^_]+" end

--- Why `source` may not include our header `target`, or nil.
local function include_breach(source, target)
  local folder, module = target:match "^([^/]+)/([^/]+)%.h$"
  if target == "neap.h" or target == "include/neap.h" then
    local path = source.path
    if path ~= "neap.c" and path ~= "main.c" and source.folder ~= "examples" then
      return "neap.h is for neap.c, main.c and the examples"
    end
    return
  end
  if source.path == "main.c" then return "main.c may include neap.h only, not " .. target end
  if source.folder == "examples" or source.folder == "include" then
    return "an outside view may not include " .. target
  end
  if not folder or not LEVEL[folder] then return "includes " .. target .. ": write folder/file.h" end
  if not lfs.attributes(root .. "runtime/" .. target) then return target .. " does not exist" end
  if source.path == "neap.c" then return end
  local from, to = LEVEL[source.folder], LEVEL[folder]
  if from < to then return ("%s (L%d) may not include %s (L%d)"):format(source.folder, from, target, to) end
  if from == to and folder ~= source.folder then
    return source.folder .. " and " .. folder .. " do not see each other"
  end
  if (folder == "flow" or folder == "net") and folder == source.folder then
    local mine, theirs = concept(source.module), concept(module)
    local through = mine == "http" and (theirs == "curlio" or theirs == "transport")
      or mine == "sim" and theirs == "transport"
    if mine ~= theirs and not through then return "may not include its neighbour " .. target end
  end
end

describe("the house", function()
  it("has the folders of runtime/ and no other", function()
    local found = {}
    for name in lfs.dir(root .. "runtime") do
      if not name:find "^%." and lfs.attributes(root .. "runtime/" .. name, "mode") == "directory" then
        found[#found + 1] = name
      end
    end
    table.sort(found)
    assert.same(FOLDERS, found)
  end)

  it("has neap.c and main.c, and nothing else, on top of runtime/", function()
    local found = {}
    for name in lfs.dir(root .. "runtime") do
      if lfs.attributes(root .. "runtime/" .. name, "mode") == "file" then found[#found + 1] = name end
    end
    table.sort(found)
    assert.same({ "main.c", "neap.c" }, found)
  end)

  it("keeps folders flat", function()
    assert_none(breaches_of(function(source)
      if source.path:find "/.*/" then return "lies in a folder inside a folder" end
    end))
  end)

  it("has no file on top that nobody agreed on", function()
    local tops = {}
    local pipe = io.popen(("git -C '%s' ls-files 2>/dev/null"):format(root))
    for path in pipe:lines() do tops[path:match "^[^/]+"] = true end
    pipe:close()
    if not next(tops) then -- no repository: an unpacked archive
      for name in lfs.dir(root) do tops[name] = true end
      for _, name in ipairs { ".", "..", ".git", "build" } do tops[name] = nil end
    end
    local unknown = {}
    for top in pairs(tops) do
      if not TOP[top] then unknown[#unknown + 1] = top end
    end
    assert_none(unknown)
  end)

  it("offers one header: include/neap.h", function()
    assert.same({ "runtime/include/neap.h" }, files("runtime/include", "."))
  end)

  it("names each binding lua_*.c", function()
    assert_none(breaches_of(function(source)
      if source.folder == "bind" and source.path:find "%.c$" and source.path ~= "bind/bind.c"
        and not source.module:find "^lua_" then
        return "a binding is called lua_*.c"
      end
    end))
  end)
end)

describe("an include", function()
  it("points down only", function()
    assert_none(breaches_of(function(source)
      local found = {}
      for _, target in ipairs(source.own) do
        found[#found + 1] = include_breach(source, target)
      end
      return unpack(found)
    end))
  end)

  it("of <uv.h> appears in core/loop.c, core/work.c, net/ and bind/lua_uv.c only", function()
    local allowed = { ["core/loop.c"] = true, ["core/work.c"] = true, ["bind/lua_uv.c"] = true }
    assert_none(foreign_only_in({ "^uv%.h$", "^uv/" }, function(source)
      return allowed[source.path] or source.folder == "net"
    end))
  end)

  it("of luv appears in bind/lua_uv.c only", function()
    assert_none(foreign_only_in({ "luv" }, function(source) return source.path == "bind/lua_uv.c" end))
  end)

  it("of Lua appears in core/task.c, bind/ and neap.c only", function()
    assert_none(foreign_only_in({ "^lua", "^lauxlib" }, function(source)
      return source.path == "core/task.c" or source.folder == "bind" or source.path == "neap.c"
    end))
  end)

  it("of curl and of libmicrohttpd appears in net/ only", function()
    assert_none(foreign_only_in({ "^curl/", "^microhttpd" }, function(source) return source.folder == "net" end))
  end)

  it("in base names libc and nothing else", function()
    assert_none(breaches_of(function(source)
      if source.folder ~= "base" then return end
      local found = {}
      for _, header in ipairs(source.foreign) do
        if not LIBC[header] then found[#found + 1] = "includes <" .. header .. ">" end
      end
      return unpack(found)
    end))
  end)

  it("in neap.h names standard headers and nothing else", function()
    for _, source in ipairs(sources) do
      if source.folder == "include" then
        assert.same({}, source.own)
        for _, header in ipairs(source.foreign) do
          assert.message("neap.h includes <" .. header .. ">").truthy(header:find "^std%a+%.h$")
        end
      end
    end
  end)
end)

describe("the library", function()
  local function is_program(source) return source.path == "main.c" or source.folder == "examples" end

  it("resumes coroutines in core/task.c only", function()
    assert_none(called_only_in("lua_resume", function(source) return source.path == "core/task.c" end))
  end)

  it("reads time in base/clock.c only", function()
    assert_none(called_only_in("clock_gettime gettimeofday time uv_hrtime uv_now clock localtime gmtime",
      function(source) return source.path == "base/clock.c" end))
  end)

  it("draws randomness in base/rng.c only", function()
    assert_none(called_only_in("rand random srand drand48 rand_r getentropy arc4random",
      function(source) return source.path == "base/rng.c" end))
  end)

  it("talks to libcurl and libmicrohttpd in net/ only", function()
    assert_none(breaches_of(function(source)
      if source.folder == "net" then return end
      local call = source.code:match "%f[%w_](curl_[%w_]+)%s*%(" or source.code:match "%f[%w_](MHD_[%w_]+)%s*%("
      if call then return "calls " .. call end
    end))
  end)

  it("never prints, exits or installs signal handlers", function()
    assert_none(called_only_in("printf puts putchar perror fputs fputc vprintf fprintf vfprintf exit _exit abort "
      .. "signal sigaction sigprocmask", is_program))
  end)

  it("keeps no mutable state outside a runtime", function()
    assert_none(breaches_of(function(source)
      if is_program(source) then return end
      local found = {}
      for line in source.code:gmatch "[^\n]+" do
        -- A static object: no parenthesis (a function), no const.
        if line:find "^static%s" and not line:find "%f[%w_]const%f[^%w_]" and not line:find "%("
          and line:find "[=;]" then
          found[#found + 1] = "static object: " .. line
        end
      end
      return unpack(found)
    end))
  end)
end)

describe("the policy in Lua", function()
  local function lua_breaches(pattern, exempt)
    local breaches = {}
    for _, path in ipairs(files("lua", "%.lua$")) do
      if not (exempt and exempt[path]) then
        local number = 0
        for line in (read(path) .. "\n"):gmatch "([^\n]*)\n" do
          number = number + 1
          local code = line:gsub("%-%-.*$", ""):gsub('"[^"]*"', '""')
          if code:find(pattern) then breaches[#breaches + 1] = ("%s:%d: %s"):format(path, number, line) end
        end
      end
    end
    return breaches
  end

  it("takes time from the runtime's clock", function()
    assert_none(lua_breaches "%f[%w_]os%.time%f[^%w_]")
    assert_none(lua_breaches "%f[%w_]os%.clock%f[^%w_]")
  end)

  it("takes randomness from the runtime's generator", function()
    assert_none(lua_breaches "%f[%w_]math%.random")
  end)

  it("leaves the process's exit to the runtime", function()
    assert_none(lua_breaches "%f[%w_]os%.exit%s*%(")
  end)
end)

describe("a file", function()
  local function all_sources()
    local list = {}
    for _, dir in ipairs { "runtime", "lua", "scripts" } do
      for _, path in ipairs(files(dir, "%.[chl][ua]*$")) do
        if path:find "%.[ch]$" or path:find "%.lua$" then list[#list + 1] = path end
      end
    end
    return list
  end

  it("holds one concept: 500 lines at most", function()
    local breaches = {}
    for _, path in ipairs(all_sources()) do
      local _, lines = read(path):gsub("\n", "")
      if lines > 500 then breaches[#breaches + 1] = ("%s has %d lines"):format(path, lines) end
    end
    assert_none(breaches)
  end)

  it("in runtime/ opens with its licence, and a header with its contract", function()
    assert_none(breaches_of(function(source)
      local first = source.text:match "^/%* SPDX%-License%-Identifier: MIT\n?(.-)%*/"
      if not first then return "does not open with the SPDX line" end
      if source.path:find "%.h$" then
        local _, lines = first:gsub("\n", "")
        if lines < 1 and #first < 60 then return "has no contract comment" end
      end
    end))
  end)
end)
