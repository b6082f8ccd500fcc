#!/usr/bin/env node
import { INTERRUPTED, watchInterrupts } from './terminal/interrupt.js';

/** Whether the command line holds this flag. Failures may come before commander has parsed the options. */
function hasFlag(flag: string): boolean {
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes(flag);
}

const interrupt = watchInterrupts();
// Loaded only now: it takes a while, in which a signal may come.
const [{ createProgram }, { reportFailure }, { Terminal }] = await Promise.all([
  import('./program.js'),
  import('./terminal/failure.js'),
  import('./terminal/terminal.js'),
]);
try {
  const words = process.argv.slice(2);
  // Alone, -v asks for the version, as node -v does; after a command it is --verbose.
  const asksVersion = words.length === 1 && words[0] === '-v';
  if (interrupt.exitCode === undefined) {
    await createProgram(interrupt.signal).parseAsync(asksVersion ? ['--version'] : words, { from: 'user' });
  }
} catch (error) {
  // An interrupt makes the work throw; the user knows about that.
  if (interrupt.exitCode === undefined) {
    const terminal = new Terminal({
      quiet: hasFlag('--quiet'),
      verbose: hasFlag('--verbose') || hasFlag('-v'),
    });
    process.exitCode = reportFailure(error, terminal, hasFlag('--json'));
  }
}
if (interrupt.exitCode !== undefined) {
  process.exitCode = interrupt.exitCode;
  if (interrupt.exitCode === INTERRUPTED) new Terminal().error('interrupted');
}
