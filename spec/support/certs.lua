--- A certificate authority of the test run's own, made with the openssl program.
local child = require "spec.support.child"
local tmp = require "spec.support.tmp"

local M = {}

local function openssl(dir, ...)
  local run = child.run_program("/usr/bin/openssl", { ... }, { cwd = dir })
  if run.code ~= 0 then error("openssl: " .. run.err) end
end

local function issue(dir, name, subject, extension)
  tmp.write(dir .. "/" .. name .. ".ext", extension)
  openssl(dir, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
    "-keyout", name .. ".key", "-out", name .. ".csr", "-subj", subject)
  openssl(dir, "x509", "-req", "-in", name .. ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
    "-days", "2", "-out", name .. ".pem", "-extfile", name .. ".ext")
end

---@class spec.Certs paths of PEM files
---@field ca string
---@field server string certificate for localhost
---@field server_key string
---@field client string
---@field client_key string

--- Makes an authority, a server and a client certificate in `dir`. Waits.
---@param dir string
---@return spec.Certs
function M.make(dir)
  openssl(dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
    "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=neap test authority")
  issue(dir, "server", "/CN=localhost", "subjectAltName=DNS:localhost\n")
  issue(dir, "client", "/CN=neap test client", "extendedKeyUsage=clientAuth\n")
  local function path(name) return dir .. "/" .. name end
  return {
    ca = path "ca.pem", server = path "server.pem", server_key = path "server.key",
    client = path "client.pem", client_key = path "client.key",
  }
end

return M
