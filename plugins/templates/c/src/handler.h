// The plugin's own code. It does not depend on WebAssembly, so that it can be tested natively.
#ifndef HANDLER_H
#define HANDLER_H

#include "json.h"

// The fields of an event that the handler reads. `at` is NULL where a text is absent.
typedef struct {
  text id;
  text type;
  text time;
  text tenant;
  text user;
  text data;
} event;

// One emission, none (`type.at` is NULL), or a rejection (`rejected.at` says why).
typedef struct {
  text type;
  text data;
  text subject;
  text rejected;
} answer;

// The descriptor of the plugin.
typedef struct {
  const char *description;
  const char *takes;
  const char *emits;
} about;

extern const about ABOUT;

answer handle(event in);

#endif
