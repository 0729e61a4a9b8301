// npm run build: plugin.js and what it imports become {{name}}.wasm.

import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';

const { component } = await componentize({
  sourcePath: 'plugin.js',
  witPath: 'wit',
  worldName: 'app',
  // A plugin has no network unless it is granted: without these the component does not ask for one.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile('{{name}}.wasm', component);
console.log(`{{name}}.wasm: ${component.length} bytes`);
