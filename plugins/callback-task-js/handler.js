// `call.ended` with the outcome `callback_requested` becomes a planning task, due tomorrow.

export const about = {
  description: 'Creates a task for every call that asks to be called back',
  takes: ['call.ended'],
  emits: ['planning.task.created'],
};

/** The event is refused for good: it goes to the dead-letter queue with this text. */
export class Rejected extends Error {}

const NO_CALLBACK = ['completed', 'voicemail', 'failed'];

/** One task, or none when no call back was requested. */
export function handle(event) {
  const reject = (why) => new Rejected(`${event.type}: ${why}`);
  const call = parse(event, reject);
  if (call.duration < 0) throw reject('`duration` is below 0');
  if (NO_CALLBACK.includes(call.outcome)) return [];
  if (call.outcome !== 'callback_requested') throw reject(`unknown outcome \`${call.outcome}\``);
  // The event's time is used instead of the clock, so that a retry tomorrow gives the same task.
  const dueDate = dayAfter(event.time);
  if (dueDate === undefined) throw reject('the event has no time, or one that is not RFC 3339');
  const transcript = call.transcript == null ? '' : `\n\nTranscript:\n${call.transcript}`;
  const task = {
    title: `Call back: ${call.call_id}`,
    description: `The caller asked to be called back.${transcript}`,
    priority: 'high',
    due_date: dueDate,
    organization_id: event.tenant ?? null,
    user_id: event.user ?? null,
    source: { event_id: event.id, call_id: call.call_id },
  };
  return [{ type: 'planning.task.created', data: task, subject: call.call_id }];
}

/** @returns {{ call_id: string, duration: number, outcome: string, transcript?: string | null }} */
function parse(event, reject) {
  let call;
  try {
    call = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(event.data));
  } catch (error) {
    throw reject(error.message);
  }
  if (typeof call !== 'object' || call === null || Array.isArray(call)) {
    throw reject('the data is no JSON object in UTF-8');
  }
  for (const field of ['call_id', 'outcome']) {
    if (!Object.hasOwn(call, field)) throw reject(`missing field \`${field}\``);
    if (!isText(call[field])) throw reject(`\`${field}\` is no string`);
  }
  if (!Object.hasOwn(call, 'duration')) throw reject('missing field `duration`');
  // JSON numbers have no bounds, and JavaScript reads 1e999 as infinity.
  if (!Number.isFinite(call.duration)) throw reject('`duration` is no number');
  if (call.transcript != null && !isText(call.transcript)) throw reject('`transcript` is no string');
  return call;
}

/** JavaScript strings may hold half a surrogate pair, which is not valid Unicode. */
function isText(value) {
  return typeof value === 'string' && !/[\ud800-\udfff]/u.test(value);
}

/** `YYYY-MM-DD` of the day after an RFC 3339 time, in the time's own offset. */
export function dayAfter(time) {
  const parts = /^(\d{4})-(\d{2})-(\d{2})[Tt ]/.exec(time ?? '');
  if (parts === null) return undefined;
  let [year, month, day] = parts.slice(1).map(Number);
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return undefined;
  day += 1;
  if (day > daysIn(year, month)) [month, day] = [month + 1, 1];
  if (month > 12) [year, month] = [year + 1, 1];
  const pad = (number, digits) => String(number).padStart(digits, '0');
  return `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}`;
}

function daysIn(year, month) {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return [4, 6, 9, 11].includes(month) ? 30 : 31;
}
