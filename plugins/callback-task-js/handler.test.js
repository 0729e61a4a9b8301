import assert from 'node:assert/strict';
import test from 'node:test';
import { Rejected, dayAfter, handle } from './handler.js';

const ended = (data, more = {}) =>
  handle({
    id: 'event-1',
    type: 'call.ended',
    time: '2026-11-21T10:00:00Z',
    tenant: 'org-1',
    user: 'user-1',
    data: new TextEncoder().encode(typeof data === 'string' ? data : JSON.stringify(data)),
    ...more,
  });
const call = (outcome) => ({ call_id: 'c-1', duration: 61.5, outcome, transcript: null });

test('only a requested callback makes a task', () => {
  for (const outcome of ['completed', 'voicemail', 'failed']) assert.deepEqual(ended(call(outcome)), []);
  const [task, ...others] = ended(call('callback_requested'));
  assert.equal(others.length, 0);
  assert.deepEqual([task.type, task.subject, task.data.due_date], ['planning.task.created', 'c-1', '2026-11-22']);
});

test('what does not fit is rejected', () => {
  const bad = [
    { duration: 1, outcome: 'completed' },
    { call_id: 'c', duration: -1, outcome: 'completed' },
    { call_id: 'c', duration: '1', outcome: 'completed' },
    { call_id: 'c', duration: 1, outcome: 'lost' },
    { call_id: '\ud800', duration: 1, outcome: 'completed' },
    [],
    '{"call_id":"c","duration":1e999,"outcome":"completed"}',
  ];
  for (const data of bad) assert.throws(() => ended(data), Rejected, JSON.stringify(data));
  assert.throws(() => ended(call('callback_requested'), { time: undefined }), Rejected);
});

test('tomorrow by the calendar', () => {
  assert.equal(dayAfter('2026-12-31T12:00:00Z'), '2027-01-01');
  assert.equal(dayAfter('2028-02-28T12:00:00Z'), '2028-02-29');
  assert.equal(dayAfter('2100-02-28T12:00:00Z'), '2100-03-01');
  for (const time of ['2026-02-30T12:00:00Z', '2026-11-21', 'yesterday', undefined]) assert.equal(dayAfter(time), undefined);
});
