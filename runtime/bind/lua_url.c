/* SPDX-License-Identifier: MIT
 * URLs: what redirects and queries need. */
#include "bind/lua_http.h"
#include "net/url.h"

#include <stdlib.h>

static int push_url(lua_State *L, char *url) {
  if (!url) return 0;
  lua_pushstring(L, url);
  free(url);
  return 1;
}

/* core.url_resolve(base, relative) -> url | nothing */
static int l_url_resolve(lua_State *L) {
  const char *base = luaL_checkstring(L, 1);
  return push_url(L, np_url_resolve(base, luaL_checkstring(L, 2)));
}

/* core.url_origin(url) -> "scheme://host:port" | nothing */
static int l_url_origin(lua_State *L) {
  return push_url(L, np_url_origin(luaL_checkstring(L, 1)));
}

/* core.url_escape(text) -> text */
static int l_url_escape(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  return push_url(L, np_url_escape(s, len));
}

static const luaL_Reg functions[] = {{"url_resolve", l_url_resolve},
                                     {"url_origin", l_url_origin},
                                     {"url_escape", l_url_escape},
                                     {NULL, NULL}};

void np_open_url(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
}
