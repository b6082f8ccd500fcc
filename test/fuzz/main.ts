// npm run fuzz -- TARGET [--seconds N] [--seed S]     tries random inputs of a target for N seconds (default 10)
// npm run fuzz -- TARGET --input FILE                 tries one input again
// TARGET is a name of targets/index.ts, the first part of some names, or `all`.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type CampaignResult, campaign, type Finding, limitsOf, Prober } from './campaign.js';
import { isFault } from './target.js';
import { targets, targetsNamed } from './targets/index.js';

const OUT = join('out', 'fuzz');

function usage(problem: string): never {
  console.error(`${problem}\nnpm run fuzz -- TARGET [--seconds N] [--seed S] [--input FILE]`);
  console.error(`targets: all, ${Object.keys(targets).join(', ')}`);
  process.exit(2);
}

function keep(name: string, seed: number, { fault, index, input, originalBytes, repeats }: Finding): string {
  mkdirSync(OUT, { recursive: true });
  const hash = createHash('sha256').update(input).digest('hex').slice(0, 8);
  const path = join(OUT, `${name.replaceAll('/', '-')}-${fault.kind}-${hash}`);
  writeFileSync(path, input);
  return [
    `${name}: ${fault.kind}: ${fault.message}`,
    `  seed ${seed}, input ${index}: ${originalBytes} bytes${repeats ? `, made smaller: ${input.length}` : ''}`,
    repeats
      ? `  repeat it: npm run fuzz -- ${name} --input ${path}`
      : `  alone it does no harm: npm run fuzz -- ${name} --seed ${seed} repeats all inputs before it too`,
  ].join('\n');
}

const columns = (cells: readonly (string | number)[]): string =>
  `| ${cells.map((cell, i) => (i === 0 ? `${cell}`.padEnd(20) : `${cell}`.padStart(9))).join(' | ')} |`;

function row(name: string, { inputs, read, refused, findings }: CampaignResult): string {
  const numbers = [inputs, read, refused, findings.length].map(count => count.toLocaleString('en'));
  return columns([name, ...numbers]);
}

async function tryAgain(name: string, file: string): Promise<number> {
  const module = targets[name]!;
  const prober = new Prober(await limitsOf(module));
  const outcome = await prober.outcome(module, readFileSync(file));
  await prober.stop();
  console.log(isFault(outcome) ? `${name}: ${outcome.kind}: ${outcome.message}` : `${name}: ${outcome}`);
  return isFault(outcome) ? 1 : 0;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string' }, seed: { type: 'string' }, input: { type: 'string' } },
});
const [word, ...more] = positionals;
if (word === undefined || more.length > 0) usage('Name one target.');
const names = targetsNamed(word);
if (names.length === 0) usage(`There is no target ${word}.`);
const seconds = Number(values.seconds ?? 10);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 32));
if (!(seconds > 0)) usage('--seconds needs a number above 0.');
if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) usage('--seed needs a whole number below 2^32.');

if (values.input !== undefined) {
  process.exitCode = await tryAgain(names[0]!, values.input);
} else {
  console.log(`seed ${seed}, ${seconds} s a target`);
  console.log(columns(['target', 'inputs', 'read', 'refused', 'faults']));
  console.log(columns(['---', '---:', '---:', '---:', '---:']));
  const told: string[] = [];
  let failed = 0;
  let inputs = 0;
  for (const name of names) {
    const result = await campaign(targets[name]!, { seconds, seed });
    console.log(row(name, result));
    inputs += result.inputs;
    told.push(...result.findings.map(finding => keep(name, seed, finding)));
    if (result.findings.length > 0) failed++;
  }
  console.log(columns(['all', inputs.toLocaleString('en'), '', '', told.length]));
  for (const text of told) console.log(`\n${text}`);
  console.log(`\n${names.length - failed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}
