// The bridge between the interface (wit/) and the handler.

import { log } from 'wasi:logging/logging@0.1.0-draft';
import { Rejected, about, handle } from './handler.js';

export const handler = {
  handle(event) {
    try {
      return handle(event).map(lower);
    } catch (error) {
      // A thrown object of this form is the interface's `failure`. A retry is { tag: 'retry', val:
      // { reason } }.
      if (error instanceof Rejected) throw { tag: 'reject', val: error.message };
      // Any other error is a bug of the plugin. The event is tried again, and the log has the
      // stack.
      log('error', '', `${error}\n${error.stack}`);
      throw error;
    }
  },
};

export const metadata = {
  describe: () => ({ name: '{{name}}', version: '0.1.0', ...about }),
};

function lower({ type, data, ...rest }) {
  return { type, data: new TextEncoder().encode(JSON.stringify(data)), attributes: [], ...rest };
}
