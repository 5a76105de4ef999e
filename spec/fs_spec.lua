-- SPDX-License-Identifier: MIT
local base64 = require "neap.base64"
local errors = require "neap.error"
local fs = require "neap.fs"
local neap = require "neap"
local uv = require "neap.uv"

local folder

local function path(name) return folder .. "/" .. name end

--- The error of a call that must fail.
local function failure(kind, code, value, err)
  assert.is_nil(value)
  assert.equal(kind, err.kind, tostring(err))
  assert.equal(code, err.code, tostring(err))
  return err
end

local function collect(iterator)
  local list = {}
  for line in iterator do list[#list + 1] = line end
  return list
end

local function descriptors() return #assert(fs.list "/proc/self/fd") end

describe("neap.fs", function()
  before_each(function() folder = assert(fs.tmpdir()) end)
  after_each(function() assert(fs.remove(folder, { recursive = true })) end)

  describe("whole files", function()
    it("come back as they were written", function()
      for _, data in ipairs { "", "x", "line\nline\r\n\0\255", ("0123456789"):rep(30000) } do
        assert.is_true(fs.write(path "f", data))
        assert.equal(data, fs.read(path "f"))
      end
    end)

    it("are overwritten by write, and grow by append", function()
      fs.write(path "f", "a long first text")
      fs.write(path "f", "one")
      assert.is_true(fs.append(path "f", " two"))
      assert.is_true(fs.write(path "f", " three", { append = true }))
      assert.equal("one two three", fs.read(path "f"))
      assert.is_true(fs.append(path "new", "x"))
      assert.equal("x", fs.read(path "new"))
    end)

    it("get the permissions asked for", function()
      fs.write(path "a", "", { mode = "600" })
      assert.equal(tonumber("600", 8), fs.stat(path "a").mode % 512)
      assert.has_error(function() fs.write(path "b", "", { mode = "rw" }) end)
      assert.has_error(function() fs.write(path "b", "", { mode = "99999" }) end)
    end)

    it("are encoded as base64 on the way", function()
      for _, size in ipairs { 0, 1, 2, 3, 48 * 1024 - 1, 48 * 1024, 48 * 1024 + 1, 150000 } do
        local data = ("\0\1\254\255abc"):rep(size):sub(1, size)
        fs.write(path "f", data)
        assert.equal(base64.encode(data), fs.read_base64(path "f"))
      end
    end)

    it("without a size in advance are read to their end", function()
      local text = fs.read "/proc/self/status"
      assert.truthy(text:find("Name:", 1, true))
      assert.equal("", fs.read "/dev/null")
    end)

    it("that cannot be read say why", function()
      local err = failure("invalid", "ENOENT", fs.read(path "nope"))
      assert.equal(("cannot read '%s': no such file or directory"):format(path "nope"), err.message)
      assert.equal(path "nope", err.path)
      failure("invalid", "EISDIR", fs.read(folder))
      failure("invalid", "ENOTDIR", fs.read "/etc/passwd/x")
      failure("invalid", "EINVAL", fs.read(path "a\0b"))
      failure("invalid", "ENOENT", fs.read_base64(path "nope"))
      failure("invalid", "ENOENT", fs.read "")
    end)

    it("that cannot be written say why", function()
      failure("invalid", "ENOENT", fs.write(path "no/f", "x"))
      failure("invalid", "EISDIR", fs.write(folder, "x"))
      failure("invalid", "EINVAL", fs.append(path "a\0b", "x"))
      failure("limit", "ENOSPC", fs.write("/dev/full", "x"))
    end)

    it("need strings", function()
      assert.has_error(function() fs.read(nil) end, "neap.fs.read: the path must be a string, got nil")
      assert.has_error(function() fs.write(path "f", 12) end, "neap.fs.write: expected a string, got number")
      assert.has_error(function() fs.write(path "f", "x", { apend = true }) end)
    end)
  end)

  describe("open files", function()
    it("are read piece by piece up to the end", function()
      fs.write(path "f", "0123456789")
      local file = fs.open(path "f")
      assert.equal("0123", file:read(4))
      assert.equal("4567", file:read(4))
      assert.equal("89", file:read(4))
      assert.is_nil(file:read(4))
      assert.is_nil((select(2, file:read(4))))
      assert.is_true(file:close())
    end)

    it("are read at any place, by many at a time, without moving their own", function()
      fs.write(path "f", ("0123456789"):rep(10000))
      local file = fs.open(path "f")
      assert.equal("012", file:read(3))
      local results = neap.map({ 0, 5, 99995, 100000, 200000 }, function(place) return file:read_at(place, 6) end)
      assert.same({ "012345", "567890", "56789", "", "" }, results)
      assert.equal(100000, #file:read_at(0, 1e6))
      assert.equal("345", file:read(3))
      for _, wrong in ipairs { -1, 0.5, "1" } do
        assert.has_error(function() file:read_at(wrong, 1) end)
        assert.has_error(function() file:read_at(0, wrong) end)
      end
      file:close()
      failure("closed", nil, file:read_at(0, 1))
    end)

    it("are locked by one at a time, until they are closed", function()
      local a, b = fs.open(path "f", "w"), fs.open(path "f", "a+")
      assert.is_true(a:lock())
      assert.is_true(a:lock())
      assert.is_false(b:lock())
      a:close()
      assert.is_true(b:lock())
      b:close()
      failure("closed", nil, b:lock())
    end)

    it("are read and written at the place that seek sets", function()
      local file = fs.open(path "f", "w+")
      assert.is_true(file:write "hello world")
      assert.equal(11, file:seek())
      assert.equal(6, file:seek("set", 6))
      assert.is_true(file:write "there")
      assert.equal(0, file:seek "set")
      assert.equal("hello there", file:read())
      assert.equal(9, file:seek("end", -2))
      assert.equal("re", file:read())
      assert.equal(10, file:seek("cur", -1))
      failure("invalid", "EINVAL", file:seek("set", -1))
      assert.equal(10, file:seek())
      file:close()
    end)

    it("that append write at the end wherever they read", function()
      fs.write(path "f", "abc")
      local file = fs.open(path "f", "a+")
      assert.equal("a", file:read(1))
      file:write "def"
      assert.equal("bcdef", file:read())
      file:close()
    end)

    it("with x must not exist", function()
      local file = assert(fs.open(path "f", "wx"))
      file:close()
      failure("invalid", "EEXIST", fs.open(path "f", "wx"))
    end)

    it("tell size and identity, are synced and cut", function()
      local file = fs.open(path "f", "w")
      file:write "0123456789"
      assert.is_true(file:sync())
      assert.equal(10, file:stat().size)
      assert.equal(fs.stat(path "f").ino, file:stat().ino)
      assert.is_true(file:truncate(4))
      assert.equal("0123", fs.read(path "f"))
      file:close()
    end)

    it("are of no use once closed, and closing again does nothing", function()
      local file = fs.open(path "f", "w+")
      assert.is_true(file:close())
      assert.is_true(file:close())
      for _, call in ipairs {
        function() return file:read() end, function() return file:write "x" end, function() return file:write "" end,
        function() return file:seek() end, function() return file:stat() end, function() return file:sync() end,
      } do
        failure("closed", nil, call())
      end
      assert.equal(("neap.fs.File (%s, closed)"):format(path "f"), tostring(file))
    end)

    it("that are not regular have no place", function()
      local file = fs.open "/dev/null"
      failure("invalid", "ESPIPE", file:seek())
      assert.is_nil(file:read())
      file:close()
    end)

    it("that cannot do it say so", function()
      failure("invalid", "EISDIR", fs.open(folder))
      fs.write(path "f", "x")
      local file = fs.open(path "f", "r")
      failure("invalid", "EBADF", file:write "x")
      file:close()
      file = fs.open("/dev/full", "w")
      failure("limit", "ENOSPC", file:write "x")
      file:close()
    end)

    it("refuse misuse", function()
      assert.has_error(function() fs.open(path "f", "rw") end)
      local file = fs.open(path "f", "w+")
      assert.has_error(function() file:read(0) end)
      assert.has_error(function() file:read "a" end)
      assert.has_error(function() file:write(12) end)
      assert.has_error(function() file:seek "start" end)
      assert.has_error(function() file:seek("set", 1.5) end)
      file:close()
    end)

    it("do not mix what two tasks write", function()
      local file = fs.open(path "f", "w")
      neap.scope(function(s)
        for i = 0, 9 do s:spawn(function() file:write(tostring(i):rep(1000)) end) end
      end)
      file:close()
      local text = fs.read(path "f")
      assert.equal(10000, #text)
      for i = 1, 10 do
        local piece = text:sub(i * 1000 - 999, i * 1000)
        assert.equal(piece:sub(1, 1):rep(1000), piece)
      end
    end)

    it("are closed by the collector", function()
      local before = descriptors()
      for _ = 1, 20 do assert(fs.open "/dev/null") end
      assert.is_true(descriptors() > before)
      collectgarbage()
      collectgarbage()
      assert.equal(before, descriptors())
    end)
  end)

  describe("lines", function()
    local function lines_of(text, opts)
      fs.write(path "f", text)
      return collect(fs.lines(path "f", opts))
    end

    it("come without their ends, the last one with or without an end", function()
      assert.same({}, lines_of "")
      assert.same({ "" }, lines_of "\n")
      assert.same({ "a" }, lines_of "a")
      assert.same({ "a", "b" }, lines_of "a\nb")
      assert.same({ "a", "b" }, lines_of "a\nb\n")
      assert.same({ "a", "", "b", "" }, lines_of "a\n\nb\n\n")
    end)

    it("keep carriage returns and zero bytes", function()
      assert.same({ "a\r", "b\0c\r", "d" }, lines_of "a\r\nb\0c\r\nd")
    end)

    it("may lie across pieces of any size", function()
      local list = {}
      for i = 1, 3000 do list[i] = ("x"):rep((i * 7919) % 1500) .. i end
      list[10] = ("y"):rep(256 * 1024)
      list[11] = ("z"):rep(256 * 1024 - 1)
      list[12] = ("w"):rep(700 * 1024)
      assert.same(list, lines_of(table.concat(list, "\n")))
      assert.same(list, lines_of(table.concat(list, "\n") .. "\n"))
    end)

    it("raise where a line is longer than allowed", function()
      assert.same({ "1234", "1234" }, lines_of("1234\n1234", { max_line = 4 }))
      for _, text in ipairs { "1234\n12345", "1234\n12345\n1", "1234\n" .. ("x"):rep(1000000) } do
        local seen = {}
        fs.write(path "f", text)
        local ok, err = pcall(function()
          for line in fs.lines(path "f", { max_line = 4 }) do seen[#seen + 1] = line end
        end)
        assert.is_false(ok)
        assert.is_true(errors.is(err, "too_large"))
        assert.same({ "1234" }, seen)
      end
    end)

    it("raise the error where the file cannot be read", function()
      local ok, err = pcall(fs.lines, path "nope")
      assert.is_false(ok)
      assert.equal("ENOENT", err.code)
      ok, err = pcall(fs.lines, folder)
      assert.is_false(ok)
      assert.equal("EISDIR", err.code)
    end)

    it("end once and for all, and close the file", function()
      fs.write(path "f", "a\nb")
      local before = descriptors()
      local next_line = fs.lines(path "f")
      assert.equal(before + 1, descriptors())
      assert.equal("a", next_line())
      assert.equal("b", next_line())
      assert.is_nil(next_line())
      assert.is_nil(next_line())
      assert.equal(before, descriptors())
    end)

    it("need no more memory for a long file", function()
      local file = fs.open(path "f", "w")
      local block = (("x"):rep(99) .. "\n"):rep(10000)
      for _ = 1, 20 do file:write(block) end
      file:close()
      local next_line, count = fs.lines(path "f"), 0
      collectgarbage()
      local before, most = collectgarbage "count", 0
      for _ in next_line do
        count = count + 1
        if count % 20000 == 0 then
          collectgarbage()
          most = math.max(most, collectgarbage "count")
        end
      end
      assert.equal(200000, count)
      assert.is_true(most - before < 2000, ("%d KiB more"):format(most - before))
    end)
  end)

  describe("names", function()
    it("are listed in order", function()
      for _, name in ipairs { "b", "a", ".c", "d" } do fs.write(path(name), "") end
      assert.same({ ".c", "a", "b", "d" }, fs.list(folder))
      failure("invalid", "ENOTDIR", fs.list(path "a"))
      failure("invalid", "ENOENT", fs.list(path "nope"))
    end)

    it("exist or not", function()
      fs.write(path "f", "")
      assert.is_true(fs.exists(path "f"))
      assert.is_true(fs.exists(folder))
      assert.is_false(fs.exists(path "nope"))
      assert.is_false(fs.exists(path "f/x"))
      failure("invalid", "EINVAL", fs.exists "\0")
    end)

    it("have a type and a size", function()
      fs.write(path "f", "12345")
      assert(uv.fs_symlink(path "f", path "link"))
      assert.equal("file", fs.stat(path "f").type)
      assert.equal(5, fs.stat(path "link").size)
      assert.equal("link", fs.lstat(path "link").type)
      assert.equal("directory", fs.stat(folder).type)
      assert.equal(fs.realpath(path "f"), fs.realpath(path "link"))
      failure("invalid", "ENOENT", fs.stat(path "nope"))
    end)

    it("of folders are made, with those above them where wanted", function()
      assert.is_true(fs.mkdir(path "a"))
      failure("invalid", "EEXIST", fs.mkdir(path "a"))
      failure("invalid", "ENOENT", fs.mkdir(path "b/c"))
      assert.is_true(fs.mkdir(path "b/c//d/", { parents = true }))
      assert.is_true(fs.mkdir(path "b/c/d", { parents = true }))
      assert.equal("directory", fs.stat(path "b/c/d").type)
      fs.write(path "f", "")
      failure("invalid", "EEXIST", fs.mkdir(path "f", { parents = true }))
      failure("invalid", "ENOTDIR", fs.mkdir(path "f/g", { parents = true }))
    end)

    it("are removed: a file, an empty folder, a whole one; never through a link", function()
      fs.mkdir(path "keep")
      fs.write(path "keep/f", "")
      fs.mkdir(path "a/b", { parents = true })
      fs.write(path "a/b/f", "")
      assert(uv.fs_symlink(path "keep", path "a/link"))
      failure("invalid", "ENOTEMPTY", fs.remove(path "a"))
      assert.is_true(fs.remove(path "a", { recursive = true }))
      assert.is_false(fs.exists(path "a"))
      assert.is_true(fs.remove(path "keep/f"))
      assert.is_true(fs.remove(path "keep"))
      local err = failure("invalid", "ENOENT", fs.remove(path "nope"))
      assert.truthy(err.message:find "^cannot remove")
    end)

    it("change, and replace what was there", function()
      fs.write(path "a", "1")
      fs.write(path "b", "2")
      assert.is_true(fs.rename(path "a", path "b"))
      assert.equal("1", fs.read(path "b"))
      failure("invalid", "ENOENT", fs.rename(path "a", path "b"))
    end)
  end)

  describe("a cancel", function()
    it("ends the wait at once and leaves no descriptor #real", function()
      fs.write(path "f", ("x"):rep(100000))
      local before, cancelled = descriptors(), 0
      for _ = 1, 50 do
        local tasks = {
          neap.spawn(function() fs.read(path "f") end), neap.spawn(function() fs.read_base64(path "f") end),
          neap.spawn(function() fs.open(path "f") end), neap.spawn(function() fs.write(path "g", "x") end),
          neap.spawn(function() collect(fs.lines(path "f")) end),
        }
        neap.sleep(0)
        for _, task in ipairs(tasks) do
          task:cancel()
          task:await()
          if task:status() == "cancelled" then cancelled = cancelled + 1 end
        end
      end
      assert.is_true(cancelled > 100, cancelled .. " cancelled") -- some are faster
      -- What was in flight comes back to nobody, a little later.
      for _ = 1, 1000 do
        collectgarbage()
        if descriptors() == before then break end
      end
      assert.equal(before, descriptors())
    end)

    it("while reading lines raises out of the loop", function()
      fs.write(path "f", ("line\n"):rep(200000))
      local err
      local task = neap.spawn(function()
        local ok
        ok, err = pcall(function()
          for _ in fs.lines(path "f") do neap.sleep(1) end
        end)
        assert.is_false(ok)
      end)
      neap.sleep(3.5)
      task:cancel()
      task:await()
      assert.is_true(errors.is(err, "cancelled"))
    end)
  end)
end)

describe("neap.fs #real", function()
  it("reads and encodes 50 MB while other tasks go on", function()
    folder = assert(fs.tmpdir())
    local name = path "large"
    local file = fs.open(name, "w")
    local block = ("0123456789abcdef"):rep(65536)
    for _ = 1, 50 do file:write(block) end
    file:close()
    local ticks, stop = 0, false
    local ticker = neap.spawn(function()
      while not stop do
        neap.sleep(0.001)
        ticks = ticks + 1
      end
    end)
    neap.sleep(0.005)
    local before = ticks
    local text = fs.read_base64(name)
    local during = ticks - before
    stop = true
    ticker:await()
    fs.remove(folder, { recursive = true })
    assert.equal(math.ceil(50 * 2 ^ 20 / 3) * 4, #text)
    assert.is_true(during >= 5, during .. " ticks")
  end)
end)
