-- SPDX-License-Identifier: MIT
-- What `cmake --install` puts in place, seen with a stranger's eyes: a program
-- that runs alone, and a library that pkg-config and CMake find.
local child = require "spec.support.child"
local core = require "neap.core"
local repository = require "spec.support.repository"

local root = repository.root
local build_dir = core.host.exe_path():match "^(.*)/[^/]*$"

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Runs a command that must succeed; returns its output.
local function must(argv, options)
  local ended = child.start_program(argv[1], { unpack(argv, 2) }, options):wait()
  assert.message(table.concat(argv, " ") .. "\n" .. ended.out .. ended.err).are.equal(0, ended.code)
  return ended.out
end

describe("an installed neap #real", function()
  local prefix, lib, include, hello

  --- The reason why this build cannot be installed, or nil.
  local function not_installable()
    if not exists(build_dir .. "/cmake_install.cmake") then return "the program does not lie in a build directory" end
    if os.getenv "NEAP_SANITIZED" then return "hosts without the sanitizer cannot load a library with it" end
  end

  local function installed(name, body)
    it(name, function()
      local reason = not_installable()
      if reason then return pending(reason) end
      body()
    end)
  end

  setup(function()
    if not_installable() then return end
    prefix = os.tmpname()
    os.remove(prefix)
    hello = root .. "runtime/examples/hello.c"
    must { "cmake", "--install", build_dir, "--prefix", prefix }
    local pc = must({ "find", prefix, "-name", "neap.pc" }):match "^[^\n]+"
    lib = pc:match "^(.*)/pkgconfig/neap%.pc$"
    include = prefix .. "/include"
  end)

  teardown(function()
    if prefix then must { "rm", "-rf", prefix } end
  end)

  --- What pkg-config says about neap, as a list.
  local function pkg_config(...)
    local output = must({ "pkg-config", ... }, { env = { PKG_CONFIG_PATH = lib .. "/pkgconfig" } })
    local flags = {}
    for flag in output:gmatch "%S+" do flags[#flags + 1] = flag end
    return flags
  end

  local function run_hello() return must({ prefix .. "/hello" }, { env = { LD_LIBRARY_PATH = lib } }) end

  local function compile_and_greet(argv)
    must(argv)
    assert.equal("hello from task 1\nhello from task 2\nhello from task 3\n"
      .. "3 greetings while many frames were drawn\n", run_hello())
  end

  installed("has the program, both libraries, the header and both packages", function()
    for _, path in ipairs {
      prefix .. "/bin/neap", lib .. "/libneap.so", lib .. "/libneap.a", include .. "/neap.h",
      lib .. "/cmake/neap/neapConfig.cmake", lib .. "/cmake/neap/neapConfigVersion.cmake", lib .. "/pkgconfig/neap.pc",
    } do
      assert.message(path .. " is missing").is_true(exists(path))
    end
  end)

  installed("runs where nothing else of it is: one file to copy", function()
    must { "cp", prefix .. "/bin/neap", prefix .. "/alone" }
    local output = must({ "env", "-i", prefix .. "/alone", "-e", "neap.sleep(0.001) print(neap.json.encode{1 + 1})" },
      { cwd = "/" })
    assert.equal("[2]\n", output)
  end)

  installed("needs only libc, libcurl and libcurl's own GnuTLS", function()
    for line in io.lines(build_dir .. "/CMakeCache.txt") do
      if line:find "^NEAP_STATIC_DEPS:BOOL=OFF" then return pending "built with shared dependencies" end
    end
    local expected = {}
    for name in ("c m dl rt pthread gcc_s curl gnutls"):gmatch "%S+" do expected[name] = true end
    local found = 0
    for name in must({ "readelf", "-d", prefix .. "/bin/neap" }):gmatch "%(NEEDED%)[^%[]*%[lib([%w_]+)[^%]]*%]" do
      found = found + 1
      assert.message("needs lib" .. name).is_true(expected[name])
    end
    assert.is_true(found > 0)
  end)

  installed("exports neap_* from the shared library and nothing else", function()
    local found = 0
    for line in must({ "nm", "-D", "--defined-only", lib .. "/libneap.so" }):gmatch "[^\n]+" do
      local name = line:match "%S+$"
      found = found + 1
      assert.message("exports " .. name).truthy(name:find "^neap_")
    end
    assert.is_true(found > 10)
  end)

  installed("keeps its names between neap_ and np_ in the static library", function()
    for line in must({ "nm", "-g", "--defined-only", lib .. "/libneap.a" }):gmatch "[^\n]+" do
      local kind, name = line:match "^%x+ (%a) (%S+)$"
      if kind then assert.message(line).truthy(name:find "^neap_" or name:find "^np_") end
    end
  end)

  installed("is found by pkg-config", function()
    compile_and_greet { "cc", hello, "-o", prefix .. "/hello", unpack(pkg_config("--cflags", "--libs", "neap")) }
  end)

  installed("runs in the host of README.md", function()
    local file = assert(io.open(root .. "README.md", "rb"))
    local code = file:read("*a"):match "\n```c\n(.-)\n```"
    file:close()
    write(prefix .. "/host.c", "static void draw_a_frame(void) {}\n" .. code)
    must { "cc", "-Wall", "-Wextra", "-Werror", prefix .. "/host.c", "-o", prefix .. "/hello",
      unpack(pkg_config("--cflags", "--libs", "neap")) }
    assert.equal("a tenth of a second later\n", run_hello())
  end)

  installed("links statically by pkg-config", function()
    local argv = { "cc", hello, "-o", prefix .. "/hello" }
    for _, flag in ipairs(pkg_config("--cflags", "--libs", "--static", "neap")) do
      argv[#argv + 1] = flag == "-lneap" and "-l:libneap.a" or flag
    end
    compile_and_greet(argv)
  end)

  for _, target in ipairs { "neap::neap", "neap::static" } do
    installed("is found by find_package as " .. target, function()
      local project = prefix .. "/project"
      must { "rm", "-rf", project }
      must { "mkdir", "-p", project }
      write(project .. "/CMakeLists.txt", table.concat({
        "cmake_minimum_required(VERSION 3.21)", "project(host LANGUAGES C)", "find_package(neap 0.1 REQUIRED)",
        ("add_executable(hello %q)"):format(must({ "realpath", hello }):match "^[^\n]+"),
        "target_link_libraries(hello PRIVATE " .. target .. ")",
      }, "\n"))
      must { "cmake", "-S", project, "-B", project .. "/build", "-DCMAKE_PREFIX_PATH=" .. prefix }
      must { "cmake", "--build", project .. "/build" }
      compile_and_greet { "cp", project .. "/build/hello", prefix .. "/hello" }
    end)
  end

  installed("has a header that strict C and C++ compilers take", function()
    for _, dialect in ipairs { { "c", "c99" }, { "c", "c11" }, { "c++", "c++11" }, { "c++", "c++17" } } do
      must { "cc", "-x", dialect[1], "-std=" .. dialect[2], "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
        include .. "/neap.h" }
    end
  end)
end)
