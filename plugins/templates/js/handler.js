// The plugin's own code. It does not depend on WebAssembly, so that `node --test` can run it.

export const about = {
  description: 'Answers a greeting',
  takes: ['hello.said'],
  emits: ['hello.answered'],
};

/** The event is refused for good: it goes to the dead-letter queue with this text. */
export class Rejected extends Error {}

/**
 * Handles one event.
 * @param {{ id: string, type: string, time?: string, tenant?: string, user?: string, data: Uint8Array }} event
 * @returns {{ type: string, data: unknown, subject?: string }[]} what follows from it
 */
export function handle(event) {
  const said = parse(event);
  return [{ type: 'hello.answered', data: { text: `Hello, ${said.name}!` }, subject: said.name }];
}

/** @returns {{ name: string }} */
function parse(event) {
  const reject = (why) => new Rejected(`${event.type}: ${why}`);
  let data;
  try {
    // Strict UTF-8 without a byte order mark, as in plugins in other languages.
    data = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(event.data));
  } catch (error) {
    throw reject(error.message);
  }
  if (typeof data !== 'object' || data === null || Array.isArray(data)) throw reject('the data is no JSON object');
  if (typeof data.name !== 'string') throw reject('`name` is missing, or no string');
  return data;
}
