local certs_module = require "spec.support.certs"
local child = require "spec.support.child"
local http = require "spec.support.http"
local neap = require "neap"
local nginx_module = require "spec.support.nginx"
local proxy_module = require "spec.support.proxy"
local tmp = require "spec.support.tmp"

local client_of, fails = http.client, http.fails

describe("a proxy #real", function()
  after_each(http.finish)

  local function start(credentials) return http.keep(proxy_module.start(credentials)) end

  it("gets plain http requests in absolute form", function()
    local proxy = start()
    local client = client_of("http://127.0.0.1:1", { proxy = proxy.url })
    local res = assert(client:get "/x?y=1")
    assert.equal("proxied http://127.0.0.1:1/x?y=1", res.body)
    assert.equal("GET", proxy.requests[1].method)
  end)

  it("gets the credentials of its address, which reach no one else", function()
    local proxy = start "dXNlcjpwYXNz"
    local address = proxy.url:gsub("//", "//user:pass@")
    assert.equal(200, assert(client_of("http://127.0.0.1:1", { proxy = address }):get "/").status)
    assert.equal(407, assert(client_of("http://127.0.0.1:1", { proxy = proxy.url }):get "/").status)
  end)

  it("that is not there gives kind 'connect' without its password", function()
    local port = require("spec.support.badserver").free_port()
    local client = client_of("http://127.0.0.1:1", { proxy = ("http://user:secret@127.0.0.1:%d"):format(port) })
    local err = fails("connect", client:post "/")
    assert.equal("no", err.sent)
    assert.matches("cannot connect to the proxy for 127.0.0.1:1", err.message, 1, true)
    assert.is_nil(tostring(err):find("secret", 1, true))
  end)

  it("that is no address is refused at once, without its password", function()
    for _, address in ipairs { "ftp://user:secret@127.0.0.1:1", "http://user:secret@", "http://a b", "http://" } do
      local client, err = neap.http.client { proxy = address }
      assert.message(address).is_nil(client)
      assert.equal("invalid", err.kind)
      assert.matches("option 'proxy' must be an address", err.message, 1, true)
      assert.is_nil(err.message:find("secret", 1, true))
    end
    for _, address in ipairs { "127.0.0.1:1", "socks5h://[::1]:1080", "http://u:p%40@proxy.test:1/" } do
      assert.message(address).is_truthy(neap.http.client { proxy = address })
    end
  end)

  describe("in front of TLS", function()
    local dir, certs, nginx

    setup(function()
      dir = tmp.dir()
      certs = certs_module.make(dir)
      nginx = nginx_module.start { certs = certs }
    end)

    teardown(function()
      nginx:stop()
      tmp.remove(dir)
    end)

    it("is asked for a tunnel, whose head is not the answer's", function()
      local proxy = start()
      local client = client_of(nginx.https, { proxy = proxy.url, tls = { ca_file = certs.ca } })
      local res = assert(client:get "/ok")
      assert.equal("ok", res.body)
      assert.is_nil(res.headers["x-proxy"])
      assert.equal("CONNECT", proxy.requests[1].method)
      assert.equal(1, res.sends)
      assert(client:get "/ok")
      assert.equal(1, #proxy.requests)
    end)

    it("is not trusted to vouch for the server", function()
      fails("tls", client_of(nginx.https, { proxy = start().url }):get "/ok")
    end)

    it("that refuses the tunnel gives an error, and nothing was sent to the server", function()
      local proxy = start "nobody"
      local res, err = client_of(nginx.https, { proxy = proxy.url, tls = { ca_file = certs.ca } }):post "/ok"
      assert.is_nil(res)
      assert.equal("no", err.sent, tostring(err))
      assert.equal(0, err.sends)
    end)

    it("does not see the request's own headers in the tunnel's request", function()
      local proxy = start()
      local client = client_of(nginx.https, {
        proxy = proxy.url, tls = { ca_file = certs.ca }, headers = { Authorization = "Bearer secret" },
      })
      assert(client:get "/ok")
      assert.is_nil(proxy.requests[1].headers.authorization)
    end)
  end)

  it("from the environment is used only when asked", function()
    local proxy = start()
    local target = http.echo()
    local script = [[
      local neap = require "neap"
      for _, proxy in ipairs { false, "env" } do
        local client = neap.http.client { base_url = arg[1], proxy = proxy }
        print(client:get("/x").body)
      end
    ]]
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    local path = tmp.write(dir .. "/script.lua", script)
    local result = child.run({ "run", path, target.url }, {
      env = { http_proxy = proxy.url, all_proxy = proxy.url, no_proxy = false },
    })
    assert.equal("", result.err)
    assert.equal("\nproxied " .. target.url .. "/x\n", result.out)
  end)
end)
