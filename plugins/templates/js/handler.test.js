import assert from 'node:assert/strict';
import test from 'node:test';
import { Rejected, handle } from './handler.js';

const said = (data) => handle({ id: 'event-1', type: 'hello.said', data: new TextEncoder().encode(data) });

test('a greeting is answered', () => {
  assert.deepEqual(said('{"name":"Zoë","more":[1]}'), [
    { type: 'hello.answered', data: { text: 'Hello, Zoë!' }, subject: 'Zoë' },
  ]);
});

test('what does not fit is rejected', () => {
  for (const data of ['', '[]', 'null', '{}', '{"name":1}', '{"name":"a"', '\ufeff{"name":"a"}']) {
    assert.throws(() => said(data), (error) => error instanceof Rejected && error.message.startsWith('hello.said: '), data);
  }
});
