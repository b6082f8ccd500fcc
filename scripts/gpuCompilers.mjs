// Compiles every program for four GPUs by Mesa's own compilers, without the GPUs: no validation error, and no program may spill
// registers or take scratch memory beyond gpuCompilers.json, which names every exception. Then runs files of tests on
// Mesa's lavapipe 26, which has subgroup matrices.
//   npm run build && node scripts/gpuCompilers.mjs [ROOT] [--seconds 240] [--write]
// ROOT: a folder that ../shared/gpu/codegen/mesa26.sh has made; default .cache/ci/mesa26. Needs root's rights.
// --seconds: what takes longer is cut off and counts as failed. --write: what was found becomes the list.
// Ends with one line 'N passed, N failed'.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { runOn, statistic, top } from './mesaChips.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string', default: '240' }, write: { type: 'boolean', default: false } },
});
const root = resolve(positionals[0] ?? join(top, '.cache/ci/mesa26'));
const listFile = join(top, 'scripts/gpuCompilers.json');
const list = JSON.parse(readFileSync(listFile, 'utf8'));
/** Slowest first. */
const chips = ['nvidia:172', 'amd:navi31', 'amd:navi21', 'apple'];
/** doubleSingle: arithmetic that a compiler must not rearrange. */
const tests = [
  'kernels/subgroupMatrix',
  'kernels/matrixBounds',
  'kernels/attentionMatrices',
  'kernels/doubleSingle',
  'kernels/rows',
  'kernels/fitting',
];

const statistics = line => ({
  spills: statistic(line, ['Spilled SGPRs', 'Spilled VGPRs', 'Spills', 'Spills to memory']),
  scratch: statistic(line, ['Scratch size', 'Scratch', 'SLM size']),
});

/** What the compilation of all programs has come to: programs, those with spills or scratch, and faults by program. */
async function compileAll(chip) {
  // Without robustness, as every command opens a GPU.
  const variables = { STATS: '1', RM_ENGINE_ROBUSTNESS: '0' };
  const command = ['node', '/codegen/compile-all.mjs', '/work'];
  const { out, log, end, seconds } = await runOn(root, chip, command, {
    variables,
    seconds: options.seconds,
  });
  const faults = new Map();
  const found = {};
  let [programs, measured, program] = [0, 0, undefined];
  for (const line of log.split('\n')) {
    if (line.startsWith('@@@key ')) {
      program = line.slice('@@@key '.length);
      programs++;
    } else if (line.startsWith('@@@vkresult ')) faults.set(program, `the driver refuses it: ${line}`);
    else if (line.startsWith('@@@stat ')) {
      const { spills, scratch } = statistics(line);
      if (spills !== undefined && scratch !== undefined) measured++;
      if (program && (spills || scratch)) found[program] = { spills, scratch };
    }
  }
  for (const [line, place] of out.matchAll(/^FAIL (.*?): .*/gm)) faults.set(place, line);
  if (end) faults.set('the whole', `${end}, at program '${program}'\n${log.slice(-500)}`);
  else if (!measured) faults.set('the whole', 'no statistics of any program');
  const mesa = log.match(/"description":"([^"]*)"/)?.[1];
  return { chip, seconds, programs, found, faults, mesa };
}

/** Adds what exceeds the list to the faults. A chip without a list is not judged, and said to be so. */
function compareWithList({ chip, found, faults, mesa }) {
  const allowed = list[chip];
  if (!allowed) {
    console.log(`${chip}: not in gpuCompilers.json, so spills and scratch are not judged; --write adds it`);
    return;
  }
  for (const [program, { spills, scratch }] of Object.entries(found)) {
    const most = { spills: 0, scratch: 0, ...allowed.programs[program] };
    if (spills > most.spills || scratch > most.scratch)
      faults.set(
        program,
        `${spills} spills and ${scratch} bytes of scratch; the list allows ${most.spills} and ${most.scratch} (list: ${allowed.mesa}; here: ${mesa})`,
      );
  }
}

/** The tests on Mesa's lavapipe. */
async function runTests() {
  rmSync(join(root, 'tmp/cache-lavapipe'), { recursive: true, force: true });
  const variables = { RM_TEST_JOBS: '1', LP_NUM_THREADS: '1', RM_ENGINE_GUARDS: '1' };
  const result = await runOn(root, 'lavapipe', ['node', 'scripts/test.mjs', ...tests], {
    variables,
    seconds: options.seconds,
  });
  const counts = result.out.match(/^(\d+) passed, (\d+) failed/m);
  const faults = [];
  if (!counts) faults.push(result.end ?? 'no count of tests');
  const [passed, failed] = counts ? counts.slice(1).map(Number) : [0, 0];
  return { ...result, faults, passed, failed: failed + faults.length };
}

const compiled = [];
let tested;
const compilation = chip => async () => compiled.push(await compileAll(chip));
const jobs = [
  compilation(chips[0]),
  async () => {
    tested = await runTests();
  },
  ...chips.slice(1).map(compilation),
];
async function worker() {
  for (let job = jobs.shift(); job; job = jobs.shift()) await job();
}
await Promise.all(Array.from({ length: Math.min(availableParallelism(), jobs.length) }, worker));

compiled.sort((a, b) => chips.indexOf(a.chip) - chips.indexOf(b.chip));
if (options.write) {
  // Where not all programs were compiled, the list stays as it was.
  const found = compiled.flatMap(({ chip, mesa, found, faults }) => {
    const entry = faults.has('the whole') ? list[chip] : { mesa, programs: found };
    return entry ? [[chip, entry]] : [];
  });
  writeFileSync(listFile, JSON.stringify(Object.fromEntries(found)));
  spawnSync('node', [join(top, 'node_modules/@biomejs/biome/bin/biome'), 'format', '--write', listFile]);
} else compiled.forEach(compareWithList);

const row = (...cells) =>
  console.log(cells.map((cell, i) => (i ? `${cell}`.padStart(10) : cell.padEnd(12))).join(''));
row('chip', 'programs', 'failed', 'spilling', 'scratch', 'seconds');
let [passed, failed] = [tested.passed, tested.failed];
for (const { chip, programs, found, faults, seconds } of compiled) {
  const spilling = Object.values(found).filter(({ spills }) => spills).length;
  row(chip, programs, faults.size, spilling, Object.keys(found).length, seconds.toFixed(0));
  passed += Math.max(0, programs - faults.size);
  failed += faults.size;
}
for (const { chip, faults } of compiled)
  for (const [program, fault] of faults) console.log(`FAILED ${chip}: ${program}: ${fault}`);
console.log(`\ntests on Mesa's lavapipe, ${tested.seconds.toFixed(0)} s\n${tested.out.trimEnd()}`);
for (const fault of tested.faults) console.log(`FAILED lavapipe: ${fault}\n${tested.log.slice(-500)}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
