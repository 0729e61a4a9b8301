// What the plugin does, without a word of WebAssembly, so that it can be tested natively.
#ifndef HANDLER_H
#define HANDLER_H

#include "json.h"

// The fields of an event that the handler looks at. `at` is NULL where a text is absent.
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

// What the plugin says of itself.
typedef struct {
  const char *description;
  const char *takes;
  const char *emits;
} about;

extern const about ABOUT;

answer handle(event in);

#endif
