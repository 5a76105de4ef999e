local errors = require "neap.error"
local files = require "neap.batch.files"
local neap = require "neap"
local tmp = require "spec.support.tmp"
local uv = require "neap.uv"
local writer = require "neap.batch.writer"

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

describe("the batch's files #real", function()
  local dir, input

  before_each(function()
    dir = tmp.dir()
    input = tmp.write(dir .. "/in.jsonl", "one\ntwo\n")
  end)
  after_each(function() tmp.remove(dir) end)

  local function input_stat() return assert(uv.fs_stat(input)) end

  local function message_of(value, err)
    assert.is_nil(value)
    assert.is_true(errors.is(err, "invalid"))
    return err.message
  end

  describe("input", function()
    it("is read in pieces to its end", function()
      local path, text = dir .. "/large", ("0123456789abcdef"):rep(20000)
      tmp.write(path, text)
      local source, pieces = assert(files.open_input(path)), {}
      for piece in function() return source:read() end do pieces[#pieces + 1] = piece end
      assert.is_true(#pieces > 1)
      assert.equal(text, table.concat(pieces))
      assert.equal(#text, source.size)
      source:close()
    end)

    it("may be a pipe", function()
      local path = dir .. "/pipe"
      assert.equal(0, os.execute("mkfifo " .. path))
      local feeder = neap.spawn(function()
        local file = assert(neap.fs.open(path, "w"))
        file:write "through "
        neap.sleep(0.05)
        file:write "a pipe"
        file:close()
      end)
      local source, text = assert(files.open_input(path)), ""
      assert.is_nil(source.size)
      for piece in function() return source:read() end do text = text .. piece end
      source:close()
      feeder:await()
      assert.equal("through a pipe", text)
    end)

    it("that is not there, or is a directory, is refused with its name", function()
      assert.equal(("cannot read '%s/none': no such file or directory"):format(dir),
        message_of(files.open_input(dir .. "/none")))
      assert.equal(("cannot read '%s': it is a directory"):format(dir), message_of(files.open_input(dir)))
    end)
  end)

  describe("output", function()
    it("is made when it is not there", function()
      local out = assert(files.open_output(dir .. "/out", input_stat(), false))
      assert.equal(0, out.size)
      assert.is_true(writer.new(out):close())
      assert.equal("", contents(dir .. "/out"))
    end)

    it("that exists is refused and stays as it is", function()
      local path = tmp.write(dir .. "/out", "precious\n")
      assert.equal(("the output '%s' exists already; --force overwrites it"):format(path),
        message_of(files.open_output(path, input_stat(), false)))
      assert.equal("precious\n", contents(path))
    end)

    it("that exists is emptied with force", function()
      local path = tmp.write(dir .. "/out", "old\n")
      local w = writer.new(assert(files.open_output(path, input_stat(), true)))
      assert.is_true(w:append "new")
      w:close()
      assert.equal("new\n", contents(path))
    end)

    it("that is the input under whatever name is refused, force or not", function()
      assert(uv.fs_symlink(input, dir .. "/symlink"))
      assert(uv.fs_link(input, dir .. "/hardlink"))
      for _, path in ipairs { input, dir .. "/symlink", dir .. "/hardlink", dir .. "/./in.jsonl" } do
        for _, force in ipairs { true, false } do
          assert.equal(("the output '%s' is the input"):format(path),
            message_of(files.open_output(path, input_stat(), force)))
        end
      end
      assert.equal("one\ntwo\n", contents(input))
    end)

    it("that cannot be made is refused with the reason", function()
      local function reason(path) return message_of(files.open_output(path, input_stat(), true)) end
      assert.matches("cannot write '.*': no such file or directory$", reason(dir .. "/none/out"))
      assert.matches("cannot write '.*': it is a directory$", reason(dir))
      assert.matches("cannot write '.*': not a directory$", reason(input .. "/out"))
    end)

    it("may be a device, which exists and holds nothing", function()
      local w = writer.new(assert(files.open_output("/dev/null", input_stat(), false)))
      assert.is_true(w:append "gone")
      assert.is_true(w:close())
    end)
  end)

  it("calls the standard streams by their names", function()
    assert.equal("cannot read standard input: i/o error", files.failure("read", "-", "EIO: i/o error").message)
    assert.equal("cannot write standard output: broken pipe", files.failure("write", "-", "EPIPE: broken pipe").message)
  end)

  describe("writer", function()
    local function open(path) return writer.new(assert(files.open_output(path, input_stat(), false))) end

    it("appends whole lines, one by one, from many tasks", function()
      local path = dir .. "/out"
      local w, long = open(path), ("x"):rep(5000)
      neap.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function(n)
        for i = 1, 20 do assert(w:append(("%d-%d-%s"):format(n, i, long))) end
        return true
      end, { concurrency = 8 })
      w:close()
      local count = 0
      for line in io.lines(path) do
        assert.matches("^%d%-%d+%-x+$", line)
        assert.is_true(#line >= 5004)
        count = count + 1
      end
      assert.equal(160, count)
      assert.equal(160, w.lines)
      assert.equal(#contents(path), w.bytes)
    end)

    it("finishes the line that it is writing when it is cancelled", function()
      local path = dir .. "/out"
      local w, line = open(path), ("y"):rep(8e6)
      local task = neap.spawn(w.append, w, line)
      neap.sleep(0)
      task:cancel()
      task:await()
      w:close()
      local text = contents(path)
      assert.is_true(text == line .. "\n" or text == "", #text .. " bytes")
      assert.equal(#text, w.bytes)
    end)

    it("fails with the reason on a full disk, and from then on at once", function()
      local w = open "/dev/full"
      assert.equal("cannot write '/dev/full': no space left on device", message_of(w:append "line"))
      assert.equal("ENOSPC", w.failed.code)
      assert.matches("no space left", message_of(w:append "another"))
      assert.equal(0, w.lines)
      w:close()
    end)
  end)
end)
