#!/usr/bin/env node
import { createProgram } from './program.js';
import { reportFailure } from './terminal/failure.js';
import { INTERRUPTED, watchInterrupts } from './terminal/interrupt.js';
import { Terminal } from './terminal/terminal.js';

/** Whether a flag is given; a failure may come before the options are parsed. */
function given(flag: string): boolean {
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes(flag);
}

const interrupt = watchInterrupts();
try {
  await createProgram(interrupt.signal).parseAsync();
} catch (error) {
  // What an interrupted work throws is no news.
  if (interrupt.exitCode === undefined) {
    const terminal = new Terminal({ quiet: given('--quiet'), verbose: given('--verbose') });
    process.exitCode = reportFailure(error, terminal, given('--json'));
  }
}
if (interrupt.exitCode !== undefined) {
  process.exitCode = interrupt.exitCode;
  if (interrupt.exitCode === INTERRUPTED) new Terminal().error('interrupted');
}
