// `call.ended` with the outcome `callback_requested` becomes a planning task, due tomorrow.
#include "handler.h"

#include <stdio.h>
#include <string.h>

const about ABOUT = {
    .description = "Creates a task for every call that asks to be called back",
    .takes = "call.ended",
    .emits = "planning.task.created",
};

typedef struct {
  text call_id;
  // Seconds.
  double duration;
  bool has_duration;
  text outcome;
  // `at` is NULL when it is absent or null.
  text transcript;
  bool has_transcript;
} call_ended;

static answer reject(event in, text why) {
  writer out = {0};
  put(&out, in.type);
  put(&out, text_of(": "));
  put(&out, why);
  return (answer){.rejected = {out.at, out.length}};
}

// The error in the data, or NULL.
static const char *parse(text data, call_ended *call) {
  reader json = json_read((const uint8_t *)data.at, data.length);
  text key;
  json_object(&json);
  while (json_key(&json, &key)) {
    if (text_is(key, "call_id")) {
      if (call->call_id.at != NULL) return "duplicate field `call_id`";
      if (!json_text(&json, &call->call_id)) return "`call_id` is no string";
    } else if (text_is(key, "duration")) {
      if (call->has_duration) return "duplicate field `duration`";
      call->has_duration = true;
      if (!json_number(&json, &call->duration)) return "`duration` is no number";
    } else if (text_is(key, "outcome")) {
      if (call->outcome.at != NULL) return "duplicate field `outcome`";
      if (!json_text(&json, &call->outcome)) return "`outcome` is no string";
    } else if (text_is(key, "transcript")) {
      if (call->has_transcript) return "duplicate field `transcript`";
      call->has_transcript = true;
      if (!json_null(&json) && !json_text(&json, &call->transcript)) return "`transcript` is no string";
    } else {
      json_skip(&json);
    }
  }
  if (!json_done(&json)) return "the data is no JSON object in UTF-8";
  if (call->call_id.at == NULL) return "missing field `call_id`";
  if (!call->has_duration) return "missing field `duration`";
  if (call->outcome.at == NULL) return "missing field `outcome`";
  return call->duration < 0 ? "`duration` is below 0" : NULL;
}

static int days_in(int year, int month) {
  switch (month) {
  case 2: return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  case 4:
  case 6:
  case 9:
  case 11: return 30;
  default: return 31;
  }
}

static int number(const char *at, size_t digits) {
  int value = 0;
  for (size_t i = 0; i < digits; i++) {
    if (at[i] < '0' || at[i] > '9') return -1;
    value = value * 10 + (at[i] - '0');
  }
  return value;
}

// Writes `YYYY-MM-DD` of the day after an RFC 3339 time, in the time's own offset. Gives false for any other text.
static bool day_after(text time, char *out, size_t room) {
  if (time.at == NULL || time.length < 11 || time.at[4] != '-' || time.at[7] != '-') return false;
  if (memchr("Tt ", time.at[10], 3) == NULL) return false;
  int year = number(time.at, 4), month = number(time.at + 5, 2), day = number(time.at + 8, 2);
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > days_in(year, month)) return false;
  if (++day > days_in(year, month)) month++, day = 1;
  if (month > 12) year++, month = 1;
  snprintf(out, room, "%04d-%02d-%02d", year, month, day);
  return true;
}

static void put_option(writer *out, text value) {
  if (value.at == NULL) {
    put(out, text_of("null"));
  } else {
    put_string(out, value);
  }
}

static text joined(text first, text second) {
  writer out = {0};
  put(&out, first);
  put(&out, second);
  return (text){out.at, out.length};
}

static text task(event in, const call_ended *call, const char *due_date) {
  text description = text_of("The caller asked to be called back.");
  if (call->transcript.at != NULL) {
    description = joined(joined(description, text_of("\n\nTranscript:\n")), call->transcript);
  }
  writer out = {0};
  put(&out, text_of("{\"title\":"));
  put_string(&out, joined(text_of("Call back: "), call->call_id));
  put(&out, text_of(",\"description\":"));
  put_string(&out, description);
  put(&out, text_of(",\"priority\":\"high\",\"due_date\":"));
  put_string(&out, text_of(due_date));
  put(&out, text_of(",\"organization_id\":"));
  put_option(&out, in.tenant);
  put(&out, text_of(",\"user_id\":"));
  put_option(&out, in.user);
  put(&out, text_of(",\"source\":{\"event_id\":"));
  put_string(&out, in.id);
  put(&out, text_of(",\"call_id\":"));
  put_string(&out, call->call_id);
  put(&out, text_of("}}"));
  return (text){out.at, out.length};
}

// One task, or none when no call back was requested.
answer handle(event in) {
  call_ended call = {0};
  const char *wrong = parse(in.data, &call);
  if (wrong != NULL) return reject(in, text_of(wrong));
  if (text_is(call.outcome, "completed") || text_is(call.outcome, "voicemail") || text_is(call.outcome, "failed"))
    return (answer){0};
  if (!text_is(call.outcome, "callback_requested"))
    return reject(in, joined(joined(text_of("unknown outcome `"), call.outcome), text_of("`")));
  // The event's time is used instead of the clock, so that a retry tomorrow gives the same task.
  char due_date[40];
  if (!day_after(in.time, due_date, sizeof due_date))
    return reject(in, text_of("the event has no time, or one that is not RFC 3339"));
  return (answer){
      .type = text_of("planning.task.created"), .data = task(in, &call, due_date), .subject = call.call_id};
}
