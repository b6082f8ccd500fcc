/**
 * Lists the adapters and opens the chosen one, in a process of its own, since drivers have crashed at both. Prints
 * `{"names": [...]}` when they are listed and `{"opened": "..."}` at the end, a line each.
 */
import { writeSync } from 'node:fs';
import { listAdapters, openAdapter } from '../../engine/adapter.js';
import { reasonOf } from '../../engine/reasons.js';

const say = (value: object) => writeSync(1, `${JSON.stringify(value)}\n`);

say({ names: await listAdapters() });
try {
  const { info } = await openAdapter(process.argv[2] || undefined);
  say({ opened: info.description });
} catch (error) {
  say({ refused: reasonOf(error) });
}
process.exit(0);
