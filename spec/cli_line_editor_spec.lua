local line_editor = require "neap.cli.line_editor"

local UP, DOWN, LEFT, RIGHT = "\27[A", "\27[B", "\27[D", "\27[C"

describe("line editor", function()
  local drawn, editor

  before_each(function()
    drawn = {}
    editor = line_editor.new {
      history = { "one", "two" },
      width = function() return 40 end,
      write = function(text) drawn[#drawn + 1] = text end,
      complete = function(before) return before == "pri" and { "nt" } or before == "s" and { "tar", "tart" } or {} end,
    }
    editor:start "> "
  end)

  --- What a line typed as `bytes` becomes.
  local function typed(bytes)
    editor:feed(bytes .. "\r")
    local event, text = editor:next_event()
    assert.equal("line", event)
    return text
  end

  it("gives a line at return", function()
    assert.equal("hello", typed "hello")
  end)

  it("waits for more while there is no return", function()
    editor:feed "hel"
    assert.is_nil(editor:next_event())
    editor:feed "lo\n"
    assert.same({ "line", "hello" }, { editor:next_event() })
  end)

  it("keeps what was typed ahead for the next line", function()
    editor:feed "a\rb\r"
    assert.same({ "line", "a" }, { editor:next_event() })
    editor:start "> "
    assert.same({ "line", "b" }, { editor:next_event() })
  end)

  it("inserts and deletes at the cursor", function()
    assert.equal("abcd", typed("acd" .. LEFT .. LEFT .. "b"))
    editor:start ""
    assert.equal("ac", typed("abc" .. LEFT .. "\127"))
    editor:start ""
    assert.equal("bc", typed("abc" .. "\1" .. "\27[3~"))
    editor:start ""
    assert.equal("xabcy", typed("abc\27[Hx\27[Fy"))
  end)

  it("does nothing at the ends of the line", function()
    assert.equal("a", typed("\127" .. LEFT .. "a" .. RIGHT .. RIGHT .. "\27[3~"))
  end)

  it("kills to both ends and the word before the cursor", function()
    assert.equal("ab", typed("abcd" .. LEFT .. LEFT .. "\11"))
    editor:start ""
    assert.equal("cd", typed("abcd" .. LEFT .. LEFT .. "\21"))
    editor:start ""
    assert.equal("local ", typed "local name\23")
  end)

  it("moves by words", function()
    assert.equal("foo Xbar", typed("foo bar\27bX"))
    editor:start ""
    assert.equal("fooX bar", typed("foo bar\1\27[1;5CX"))
  end)

  it("treats a UTF-8 character as one, also when its bytes come one by one", function()
    assert.equal("üa", typed("üä\127a"))
    editor:start ""
    for byte in ("ü"):gmatch "." do
      editor:feed(byte)
      assert.is_nil(editor:next_event())
    end
    assert.equal("ü", typed "")
  end)

  it("waits for the rest of an escape sequence and ignores unknown ones", function()
    editor:feed "ab\27"
    assert.is_nil(editor:next_event())
    editor:feed "[D"
    assert.is_nil(editor:next_event())
    assert.equal("aXb", typed "X\27[15~\27OP\27[?25h\27[1\27")
  end)

  it("walks through the history and back to the line begun", function()
    assert.equal("one", typed("dra" .. UP .. UP .. UP))
    editor:start ""
    assert.equal("draft", typed("dra" .. UP .. UP .. DOWN .. DOWN .. DOWN .. "ft"))
  end)

  it("edits a recalled line without changing the history", function()
    assert.equal("two!", typed(UP .. "!"))
    assert.same({ "one", "two" }, editor.history)
  end)

  it("completes the common beginning", function()
    assert.equal("print", typed "pri\t")
    editor:start ""
    assert.equal("star", typed "s\t")
  end)

  it("tells ctrl-c, and ctrl-d on an empty line only", function()
    editor:feed "abc\3"
    assert.equal("interrupt", (editor:next_event()))
    editor:start ""
    editor:feed "ab\1\4"
    assert.is_nil(editor:next_event())
    assert.equal("b", editor:text())
    editor:feed "\5\127\4"
    assert.equal("eof", (editor:next_event()))
  end)

  it("draws the prompt, the line and the cursor", function()
    editor:feed("abc" .. LEFT)
    editor:next_event()
    assert.equal("\r> abc\27[0K\r\27[4C", drawn[#drawn])
  end)

  it("scrolls a line that is wider than the terminal", function()
    editor:feed(("x"):rep(60) .. "END")
    editor:next_event()
    local shown = drawn[#drawn]:match "^\r> ([%w]*)\27"
    assert.is_true(#shown <= 38)
    assert.matches("END$", shown)
    editor:feed "\1"
    editor:next_event()
    assert.matches("^\r> x+\27%[0K\r\27%[2C$", drawn[#drawn])
  end)
end)
