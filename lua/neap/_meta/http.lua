---@meta
--- The http client as C gives it (runtime/bind/lua_http*.c); scripts use
--- neap.http, which stands on it. Times are seconds. Waiting methods return nil
--- and an error when the request fails and raise kind "cancelled" in a cancelled
--- task. A request's error carries `sent`, `sends`, `phase` and, for a limit that
--- ran out, `timeout`.

local core = {}

---@class neap.core.HttpConfig
---@field max_connections? integer calls that run at a time (100)
---@field max_connections_per_host? integer to one scheme, host and port (max_connections)
---@field max_waiting? integer calls that may wait for a place (no limit)
---@field keepalive_timeout? number seconds an idle connection is kept (118)
---@field force_close? boolean a connection a request
---@field http_version? "1.1"|"2" nil: what TLS negotiates, else 1.1
---@field dns_cache_ttl? number seconds (60); negative: for ever
---@field compression? string|false Accept-Encoding; "" (default): all that is built in
---@field proxy? string|false an address, "env" for the environment's, or none
---@field tls_ca_file? string
---@field tls_cert? string
---@field tls_key? string
---@field tls_verify? boolean default true
---@field cookies? boolean keep and send them
---@field timeout_queue? number waiting for a place (no limit)
---@field timeout_connect? number from admission to the connection, TLS included (10)
---@field timeout_first_byte? number from the request sent to the complete final head (no limit)
---@field timeout_idle? number between two bytes (no limit)
---@field timeout_total? number from admission to the end (300)
---@field max_body? integer decoded bytes (100 MB)
---@field max_headers? integer bytes of all heads (256 kB)

--- Overrides for one request.
---@class neap.core.HttpSpec
---@field timeout_queue? number
---@field timeout_connect? number
---@field timeout_first_byte? number
---@field timeout_idle? number
---@field timeout_total? number
---@field max_body? integer for a stream: no limit unless given here
---@field max_headers? integer
---@field http_version? "1.1"|"2"
---@field compression? string|false
---@field replay_safe? boolean may be sent again after it may have arrived; default: the method is idempotent

---@class neap.core.HttpResult
---@field status integer
---@field body? string nil for a stream
---@field version "1.0"|"1.1"|"2"
---@field sends integer times it went onto the wire
---@field replay_safe? true
---@field raw neap.http_meta

--- What a response carries beside its table, for core.http_headers and
--- core.http_timings.
---@class neap.http_meta

---@class neap.http_client
local client = {}

--- Sends a request and brings the whole response. headers is a flat array of
--- names and values. The body is sent as it is; redirects are not followed. Waits.
---@param method string a token, not CONNECT
---@param url string http or https
---@param headers? string[] {name, value, name, value, ...}
---@param body? string
---@param spec? neap.core.HttpSpec
---@return neap.core.HttpResult? result
---@return neap.Error? err
function client:send(method, url, headers, body, spec) end

--- Starts a request whose response, and perhaps body, goes in pieces. Waits until
--- it is admitted.
---@param method string
---@param url string
---@param headers? string[]
---@param body? string|integer|true a string; or it will be written: its length, or true for unknown
---@param spec? neap.core.HttpSpec
---@return neap.http_call? call
---@return neap.Error? err
function client:open(method, url, headers, body, spec) end

--- Waiting and running requests end with kind "closed", and so do later ones; all
--- connections close. Idempotent. Never waits.
function client:close() end

--- `waiting`, `in_flight`, `connections` (idle ones included), `sends`, `calls`
--- (made and not yet let go), `easies` (libcurl handles). Never waits.
---@return table<string, integer>
function client:stats() end

---@class neap.http_call
local call = {}

--- The final head. Waits.
---@return neap.core.HttpResult? result without a body
---@return neap.Error? err
function call:head() end

--- What has come of the body, decoded; nil at its end. Receiving pauses while
--- more than 256 kB are not taken. Waits.
---@return string? chunk
---@return neap.Error? err
function call:read() end

--- Sends a piece of the body; waits while more than 256 kB are on their way. Fails
--- once the call has ended: call:head() then says how.
---@param chunk string
---@return true? written
---@return neap.Error? err
function call:write(chunk) end

--- Ends the body. Never waits.
---@return true? finished
---@return neap.Error? err
function call:finish() end

--- Aborts what is under way and frees the place; later calls fail with kind
--- "closed". Idempotent. Never waits.
function call:close() end

--- A client; raises without memory. Never waits.
---@param config neap.core.HttpConfig
---@return neap.http_client
function core.http_client(config) end

--- Totals over all clients, see client:stats; `clients` too.
---@return table<string, integer>
function core.http_stats() end

--- The final head's fields in order of arrival, names in lower case.
---@param raw neap.http_meta
---@return string[] headers {name, value, name, value, ...}
function core.http_headers(raw) end

--- The value of the first field of that name; cheaper than a look at them all.
---@param raw neap.http_meta
---@param name string in any case
---@return string?
function core.http_header(raw, name) end

--- Whether a field speaks of rate limits or of waiting (Retry-After); cheaper than
--- a look at them all.
---@param raw neap.http_meta
---@return boolean
function core.http_mentions_limits(raw) end

--- The protocol's version.
---@param raw neap.http_meta
---@return "1.0"|"1.1"|"2"
function core.http_version(raw) end

--- Seconds by phase: queue, pace (0 here), dns, connect, tls, send, first_byte,
--- download; total is from the call to its end. Of a stream: so far.
---@param raw neap.http_meta
---@return table<string, number>
function core.http_timings(raw) end

--- The metatable of results; neap.http puts the methods in.
---@type table
core.http_response_metatable = {}

--- What the libcurl at hand can do: gzip, deflate, br, zstd, http2, tls.
---@type table<string, boolean>
core.http_features = {}

--- The absolute URL that `relative` means on a page at `base`; nothing when one
--- of them is malformed.
---@param base string
---@param relative string
---@return string?
function core.url_resolve(base, relative) end

--- "scheme://host:port", the port always there; nothing for a malformed URL.
---@param url string
---@return string?
function core.url_origin(url) end

--- Percent-encodes all but letters, digits and -._~
---@param text string
---@return string
function core.url_escape(text) end
