--- Debian's nginx as a child process with a configuration of its own.
local badserver = require "spec.support.badserver"
local child = require "spec.support.child"
local neap = require "neap"
local tmp = require "spec.support.tmp"
local uv = require "neap.uv"

local M = {}

M.PROGRAM = "/usr/sbin/nginx"
local MODULES = "/usr/lib/nginx/modules/"

local MAIN = [[
load_module %MODULES%ngx_http_brotli_filter_module.so;
pid %DIR%/nginx.pid;
error_log %DIR%/error.log warn;
worker_processes 1;
user root;
events { worker_connections 4096; }
http {
  access_log off;
  default_type text/plain;
  client_body_temp_path %DIR%/body;
  proxy_temp_path %DIR%/proxy;
  fastcgi_temp_path %DIR%/fastcgi;
  uwsgi_temp_path %DIR%/uwsgi;
  scgi_temp_path %DIR%/scgi;
  client_max_body_size 64m;
  keepalive_requests 1000000;
  http2_max_concurrent_streams 128;
  gzip_types *; brotli_types *;
  gzip_min_length 1; brotli_min_length 1;
  gzip_http_version 1.0;

  server {
    listen 127.0.0.1:%HTTP%;
    %LOCATIONS%
  }
  %TLS%
}
]]

local TLS = [[
  server {
    listen 127.0.0.1:%HTTPS% ssl http2;
    ssl_certificate %SERVER%;
    ssl_certificate_key %SERVER_KEY%;
    %LOCATIONS%
  }
  server {
    listen 127.0.0.1:%MTLS% ssl;
    ssl_certificate %SERVER%;
    ssl_certificate_key %SERVER_KEY%;
    ssl_client_certificate %CA%;
    ssl_verify_client on;
    location / { return 200 "$ssl_client_s_dn"; }
  }
]]

local LOCATIONS = [[
    root %DIR%/www;
    location = /ok { return 200 "ok"; }
    location = /protocol { return 200 "$server_protocol"; }
    location = /connection { return 200 "$connection $connection_requests"; }
    location = /accept-encoding { return 200 "$http_accept_encoding"; }
    location = /headers { return 200 "$http_user_agent|$http_accept|$content_type|$http_x_test|$host"; }
    location = /method { return 200 "$request_method"; }
    location = /uri { return 200 "$request_uri"; }
    location = /json { default_type application/json; return 200 '{"a":[1,2],"b":"x"}'; }
    location = /404 { return 404 "none"; }
    location = /500 { return 500 "broken"; }
    location = /301 { return 301 /ok; }
    location /read/ { proxy_pass http://127.0.0.1:%HTTP%/; } # reads the body first
    location /gzip/ { gzip on; alias %DIR%/www/; }
    location /br/ { brotli on; alias %DIR%/www/; }
    location /slow/ { limit_rate 20k; alias %DIR%/www/; }
]]

---@class spec.Nginx
---@field dir string
---@field http string base url
---@field https string? base url, HTTP/2 by ALPN
---@field mtls string? base url, asks for a client certificate
local Nginx = {}
Nginx.__index = Nginx

local function fill(text, values)
  for _ = 1, 3 do
    text = text:gsub("%%([A-Z_]+)%%", function(name) return values[name] end)
  end
  return text
end

local function connects(port)
  return neap.await(function(done)
    local socket = uv.new_tcp()
    socket:connect("127.0.0.1", port, function(err)
      socket:close()
      done(not err)
    end)
  end)
end

function Nginx:launch()
  self.process = child.start_program(M.PROGRAM, {
    "-p", self.dir, "-c", self.dir .. "/nginx.conf", "-e", self.dir .. "/error.log", "-g", "daemon off;",
  })
  for _ = 1, 500 do
    if connects(self.port) then return end
    if self.process.code then break end
    neap.sleep(0.01)
  end
  error("nginx does not start: " .. self.process.err .. (tmp.read(self.dir .. "/error.log") or ""))
end

--- Starts nginx. Files of `www` are served below /, /gzip/, /br/ and /slow/. Waits.
---@param opts? {certs: spec.Certs?, www: table<string, string>?}
---@return spec.Nginx
function M.start(opts)
  opts = opts or {}
  local dir = tmp.dir()
  assert(uv.fs_mkdir(dir .. "/www", 493))
  for name, content in pairs(opts.www or {}) do tmp.write(dir .. "/www/" .. name, content) end
  local values = {
    DIR = dir, MODULES = MODULES, LOCATIONS = LOCATIONS, TLS = opts.certs and TLS or "",
    HTTP = badserver.free_port(), HTTPS = badserver.free_port(), MTLS = badserver.free_port(),
  }
  if opts.certs then
    values.SERVER, values.SERVER_KEY, values.CA = opts.certs.server, opts.certs.server_key, opts.certs.ca
  end
  tmp.write(dir .. "/nginx.conf", fill(MAIN, values))
  local self = setmetatable({
    dir = dir, port = values.HTTP,
    http = "http://127.0.0.1:" .. values.HTTP,
    https = opts.certs and "https://localhost:" .. values.HTTPS,
    mtls = opts.certs and "https://localhost:" .. values.MTLS,
  }, Nginx)
  self:launch()
  return self
end

--- Ends nginx at once (SIGTERM) and starts it again on the same ports. Waits.
function Nginx:restart()
  self.process:kill "sigterm"
  self.process:wait()
  self:launch()
end

--- Ends nginx and removes its files. Waits.
function Nginx:stop()
  self.process:kill "sigterm"
  self.process:wait()
  tmp.remove(self.dir)
end

return M
