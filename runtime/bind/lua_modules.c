/* SPDX-License-Identifier: MIT */
#include "bind/bind.h"
#include "bind/modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct np_module *find(const char *name) {
  for (const struct np_module *m = np_modules; m->name; m++)
    if (strcmp(m->name, name) == 0) return m;
  return NULL;
}

/* Reads the whole file and compiles it under the embedded module's name, so
 * that tracebacks and reports are the same. */
static int load_file(lua_State *L, const char *file, const char *chunk) {
  FILE *f = fopen(file, "rb");
  luaL_Buffer text;
  size_t got;
  if (!f) return -1;
  luaL_buffinit(L, &text);
  while ((got = fread(luaL_prepbuffer(&text), 1, LUAL_BUFFERSIZE, f)) > 0)
    luaL_addsize(&text, got);
  (void)fclose(f);
  luaL_pushresult(&text);
  const char *code = lua_tolstring(L, -1, &got);
  return luaL_loadbuffer(L, code, got, chunk);
}

/* A loader in the sense of package.loaders; upvalue 1: the folder, or nil. */
static int search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  const char *path = lua_tostring(L, lua_upvalueindex(1));
  int rc = -1;
  if (strncmp(name, "neap", 4) != 0 || (name[4] != '\0' && name[4] != '.'))
    return 0;
  const struct np_module *m = find(name);
  const char *relative = luaL_gsub(L, name, ".", "/");
  if (path && !m) {
    const char *file = lua_pushfstring(L, "%s/%s.lua", path, relative);
    rc = load_file(L, file, lua_pushfstring(L, "@%s.lua", relative));
  } else if (path) {
    const char *file = lua_pushfstring(L, "%s/%s", path, m->chunk + 1);
    rc = load_file(L, file, m->chunk);
  }
  if (rc < 0 && m) rc = luaL_loadbuffer(L, m->code, m->len, m->chunk);
  if (rc < 0) {
    lua_pushfstring(L, "\n\tno module '%s' in neap", name);
    return 1;
  }
  if (rc != 0) return lua_error(L);
  /* neap's own code sees the plain globals, also when a simulated script, whose
   * globals are others (lua/neap/sim/determinism.lua), is the first to ask. */
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.globals");
  (void)lua_setfenv(L, -2);
  return 1;
}

void np_push_core(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.core");
}

void np_open_modules(lua_State *L, const char *path) {
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.core");
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.globals");
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaded");
  np_push_core(L);
  lua_setfield(L, -2, "neap.core");
  lua_pop(L, 1);
  lua_getfield(L, -1, "loaders");
  for (int i = (int)lua_objlen(L, -1); i >= 2; i--) {
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushstring(L, path); /* nil for NULL */
  lua_pushcclosure(L, search, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}
