/* SPDX-License-Identifier: MIT
 * What the other side of the simulated wire may read of a request. */
#include "bind/lua_sim.h"

#include "net/http_headers.h"
#include "net/sim.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* core.sim_body_of(slot) -> string; nil: the client has left */
static int l_body_of(lua_State *L) {
  struct np_sim_request r;
  if (!np_sim_request(np_lua_check_sim(L)->sim, np_lua_check_slot(L), &r))
    return 0;
  lua_pushlstring(L, r.body_len > 0 ? r.body : "", r.body_len);
  return 1;
}

/* The value of the first header with this name, or NULL. */
static const char *find_header(const struct np_sim_request *r, const char *name,
                               size_t len) {
  const char *line = r->headers->lines.data;
  for (uint32_t i = 0; i < r->headers->count; i++) {
    if (strncasecmp(line, name, len) == 0 && line[len] == ':')
      return line + len + 2;
    line += strlen(line) + 1;
  }
  return NULL;
}

/* core.sim_header_of(slot, name) -> value of the first such header, or nil */
static int l_header_of(lua_State *L) {
  struct np_sim_request r;
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  if (!np_sim_request(np_lua_check_sim(L)->sim, np_lua_check_slot(L), &r))
    return 0;
  lua_pushstring(L, find_header(&r, name, len)); /* NULL is nil */
  return 1;
}

static int push_pair(lua_State *L, int n, const char *name, size_t len,
                     const char *value) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < len; i++) {
    char c = name[i];
    luaL_addchar(&b, (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
  }
  luaL_pushresult(&b);
  lua_rawseti(L, -2, n + 1);
  lua_pushstring(L, value);
  lua_rawseti(L, -2, n + 2);
  return n + 2;
}

/* libcurl sends user and password of the URL, unless the header is there. */
static int push_basic(lua_State *L, int n, const struct np_sim_request *r) {
  static const char name[] = "authorization";
  char *basic =
      find_header(r, name, sizeof name - 1) ? NULL : np_url_basic(r->url);
  if (basic) n = push_pair(L, n, name, sizeof name - 1, basic);
  free(basic);
  return n;
}

/* core.sim_headers_of(slot) -> {"name", "value", ...} as a server gets them;
 * nil: the client has left */
static int l_headers_of(lua_State *L) {
  struct np_sim_request r;
  char length[24];
  int n = 0;
  if (!np_sim_request(np_lua_check_sim(L)->sim, np_lua_check_slot(L), &r))
    return 0;
  lua_newtable(L);
  n = push_pair(L, n, "host", 4, r.host);
  n = push_basic(L, n, &r);
  const char *line = r.headers->lines.data;
  for (uint32_t i = 0; i < r.headers->count; i++) {
    size_t len = strcspn(line, ":");
    n = push_pair(L, n, line, len, line + len + 2);
    line += strlen(line) + 1;
  }
  if (r.compression)
    n = push_pair(L, n, "accept-encoding", 15,
                  *r.compression ? r.compression : "gzip, deflate");
  if (!r.has_body) return 1;
  (void)snprintf(length, sizeof length, "%llu", (unsigned long long)r.body_len);
  (void)push_pair(L, n, "content-length", 14, length);
  return 1;
}

const luaL_Reg np_lua_sim_request[] = {{"sim_body_of", l_body_of},
                                       {"sim_headers_of", l_headers_of},
                                       {"sim_header_of", l_header_of},
                                       {NULL, NULL}};
