#include "handler.h"

const about ABOUT = {
    .description = "Answers a greeting",
    .takes = "hello.said",
    .emits = "hello.answered",
};

static answer reject(event in, const char *why) {
  writer out = {0};
  put(&out, in.type);
  put(&out, text_of(": "));
  put(&out, text_of(why));
  return (answer){.rejected = {out.at, out.length}};
}

answer handle(event in) {
  reader json = json_read((const uint8_t *)in.data.at, in.data.length);
  text key, name = {0};
  json_object(&json);
  while (json_key(&json, &key)) {
    if (text_is(key, "name")) {
      json_text(&json, &name);
    } else {
      json_skip(&json);
    }
  }
  // The same bytes will not fit later either, so the event is rejected and not tried again.
  if (!json_done(&json)) return reject(in, "the data is no JSON object, or `name` is no string");
  if (name.at == NULL) return reject(in, "missing field `name`");

  writer greeting = {0}, data = {0};
  put(&greeting, text_of("Hello, "));
  put(&greeting, name);
  put(&greeting, text_of("!"));
  put(&data, text_of("{\"text\":"));
  put_string(&data, (text){greeting.at, greeting.length});
  put(&data, text_of("}"));
  return (answer){.type = text_of("hello.answered"), .data = {data.at, data.length}, .subject = name};
}
