// Prints what two GPU compilers say of the hot programs, as the tables of docs/kernels.md: registers, spills, occupancy, the hot block.
//   npm run build && node scripts/gpuReports.mjs [ROOT] [--before CHECKOUT] [--write]
// ROOT as for gpuCompilers.mjs. --before: another built checkout, whose programs stand before this one's, compiled with checks
// of indices. --write: keeps the shares in gpuReports.json, with which the model of speed is compared. Needs root's rights.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { hotBlock, instructionsFile } from './hotBlock.mjs';
import { runOn, statistic, top } from './mesaChips.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { before: { type: 'string' }, write: { type: 'boolean', default: false } },
});
const root = resolve(positionals[0] ?? join(top, '.cache/ci/mesa26'));
const chips = { nvidia: 'nvidia:172', amd: 'amd:navi31' };
const SECONDS = 600;

/** Name, key of the program, and the filter that compiles its cases. The first ones are those of the model of speed. */
const programs = [
  ['tiled 64x64', /^matmul tiled 64x64: f32, bf16, out( \+ residual)?$/],
  ['tiled 128x64', /^matmul tiled 128x64: f32, bf16, out( \+ residual)?$/],
  ['tiled 128x128', /^matmul tiled 128x128: f32, bf16, out( \+ residual)?$/],
  ['gated 64x128', /^gatedMatmul tiled 64x128: f32, bf16, bf16, out silu$/],
  ['gated 128x128', /^gatedMatmul tiled 128x128: f32, bf16, bf16, out silu$/],
  ['attention', /^attention tiled 128$/],
  ['exact sums', /^outer products tiled 64x64$/],
  ['solve', /^block product f32 tiled 32x64$/],
  ['block product pair', /^block product pair tiled 32x64$/],
  ['block product precise', /^block product precise tiled 32x64$/],
  ['attention backward by keys 256', /^attention backward by keys 256$/],
  ['matrices 128x128, f16', /^matmul subgroupMatrix 128x128 of 16x16x16: f16.* f16.*, out/],
  ['matrices 64x128, f16', /^matmul subgroupMatrix 64x128 of 16x16x16: f16.* f16.*, out/],
  [
    'matrices 64x128, f32 x bf16, split',
    /^matmul subgroupMatrix 64x128 of 16x16x16: f32, bf16, out( \+ residual)?$/,
  ],
  [
    'matrices 128x128, f32 x bf16, single',
    /^matmul subgroupMatrix 128x128 of 16x16x16 single: f32, bf16, out/,
  ],
  [
    'matrices 64x64, TN, f32, split',
    /^matmul subgroupMatrix 64x64 of 16x16x16: f32 k-strided, f32 k-strided, out/,
  ],
];

/** What a compiler says of the programs of a checkout, by name. */
async function reportsOf(chip, checkout, variables) {
  const folder = `/tmp/gpu-reports-${chip.replace(':', '-')}`;
  const outside = join(root, folder);
  rmSync(outside, { recursive: true, force: true });
  mkdirSync(outside, { recursive: true });
  const { log, end } = await runOn(root, chip, ['node', '/codegen/compile-all.mjs', '/work'], {
    variables: { STATS: '1', STATS_IR: folder, ...variables },
    ...{ seconds: SECONDS, checkout },
  });
  if (end) throw new Error(`${chip}: ${end}\n${log.slice(-500)}`);
  const found = new Map();
  let [name, line] = [];
  for (const said of log.split('\n')) {
    if (said.startsWith('@@@key ')) {
      const key = said.slice('@@@key '.length);
      name = programs.find(([of, pattern]) => !found.has(of) && pattern.test(key))?.[0];
    } else if (said.startsWith('@@@stat ')) line = said;
    else if (said.startsWith('@@@ir ') && name) {
      const path = join(outside, instructionsFile(chip, said.split(' ')[1]));
      if (existsSync(path)) found.set(name, reportOf(line, hotBlock(chip, readFileSync(path, 'utf8'))));
    }
  }
  rmSync(outside, { recursive: true, force: true });
  return found;
}

const reportOf = (line, block) => ({
  registers: statistic(line, ['VGPRs', 'Number of GPRs']),
  spills: statistic(line, ['Spilled SGPRs', 'Spilled VGPRs', 'Spills to memory']),
  occupancy: statistic(line, ['Subgroups per SIMD', 'Max warps/SM']),
  inverse: statistic(line, ['Inverse Throughput']),
  block,
});

/** Share of the vector instructions of the hot block that multiply and add. */
const shareOf = ({ block }) => Number((block.multiplyAdds / block.vector).toFixed(3));

const cell = report => {
  if (!report) return '';
  const { registers, spills, occupancy, inverse, block } = report;
  const hot = block.matrices
    ? `${(block.instructions / block.matrices).toFixed(1)} per matrix`
    : `${Math.round(100 * shareOf(report))} %`;
  return [
    ...[hot, `${registers} registers`, `${occupancy} waves`],
    ...(spills ? [`${spills} spills`] : []),
    ...(inverse ? [`1/throughput ${inverse}`] : []),
  ].join(', ');
};

const columns = [];
for (const [title, chip] of [
  ['NVK, Ampere', chips.nvidia],
  ['RADV, Navi 31', chips.amd],
]) {
  if (options.before)
    columns.push([
      `${title}, before`,
      chip,
      await reportsOf(chip, resolve(options.before), { RM_ENGINE_ROBUSTNESS: '1' }),
    ]);
  columns.push([title, chip, await reportsOf(chip, top, { RM_ENGINE_ROBUSTNESS: '0' })]);
}
console.log(`| program | ${columns.map(([title]) => title).join(' | ')} |`);
console.log(`|---${'|---'.repeat(columns.length)}|`);
for (const [name] of programs)
  console.log(`| ${name} | ${columns.map(([, , found]) => cell(found.get(name))).join(' | ')} |`);
if (options.write) {
  const shares = Object.entries(chips).map(([vendor, chip]) => {
    const found = columns.findLast(column => column[1] === chip)[2];
    const products = [...found].filter(([, { block }]) => block.matrices === 0);
    return [vendor, Object.fromEntries(products.map(([name, report]) => [name, shareOf(report)]))];
  });
  writeFileSync(
    join(top, 'scripts/gpuReports.json'),
    `${JSON.stringify(Object.fromEntries(shares), null, 2)}\n`,
  );
}
