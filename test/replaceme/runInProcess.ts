/**
 * Prunes in a process of its own, to be killed: node runInProcess.js MODEL OUT OPTIONS, the options in JSON. Says on
 * stdout, a line each, what is done, and "report: " and the report's JSON at the end. After each line it waits for a
 * byte on stdin or its end, so that whoever kills it can hold it.
 */
import { readSync, writeSync } from 'node:fs';
import { type PruneOptions, prune, RmError } from '../../index.js';

const [model, out, options] = process.argv.slice(2);
const answer = new Uint8Array(1);
// Not by a stream, which a kill would cut short.
const say = (line: string) => {
  writeSync(1, `${line}\n`);
  readSync(0, answer);
};
try {
  const report = await prune(model!, out!, {
    ...(JSON.parse(options!) as PruneOptions),
    onProgress: ({ phase, done, total }) => say(`${phase} ${done}/${total}`),
    onNotice: text => say(`notice: ${text}`),
  });
  say(`report: ${JSON.stringify(report)}`);
} catch (error) {
  if (!(error instanceof RmError)) throw error;
  say(`error: ${error.code} ${error.message}`);
  process.exitCode = 1;
}
