// Compares the two rounds in which `measured` judges candidates with judging all of them in full: what each chooses, and the
// operations that each takes, counted dispatch by dispatch. Usage after a build:
// node scripts/judgingRounds.mjs MODEL LAYERS [--method refit] [--fit 4096] [--held-out 1024] [--candidates 16]
//   [--finalists 3] [--batch 1024] [--texts FILE...]
import { parseArgs } from 'node:util';
import { Device } from '../dist/engine/index.js';
import { Model } from '../dist/model/index.js';
import { calibrationSizes } from '../dist/replaceme/calibration/sizes.js';
import { readTextInputs } from '../dist/replaceme/inputs/textInputs.js';
import { methodNamed } from '../dist/replaceme/methods/index.js';
import { selectionNamed } from '../dist/replaceme/selections/index.js';

const number = value => ({ type: 'string', default: `${value}` });
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    method: { type: 'string', default: 'refit' },
    ...{ fit: number(4096), 'held-out': number(1024), candidates: number(16), finalists: number(3) },
    batch: number(1024),
    texts: { type: 'string', multiple: true, default: ['assets/demo-calibration.txt'] },
  },
});
const [from, layers] = positionals;
if (!layers) throw new Error('usage: node scripts/judgingRounds.mjs MODEL LAYERS [options]');

const measuring = {
  fitTokens: Number(values.fit),
  heldOutTokens: Number(values['held-out']),
  candidates: Number(values.candidates),
};
const device = await Device.open({ profile: true });
const model = await Model.load(device, from);
const batchTokens = Number(values.batch);
const tokens = measuring.fitTokens + 2 * measuring.heldOutTokens;
const options = { tokens, calibration: values.texts, batchTokens, report: 'none' };
const sizes = calibrationSizes(options, device, model.arch);
const inputs = await readTextInputs(from, model.arch, device, options, sizes, true);
const { batches } = await inputs.open(model);

/** Operations in sections of candidates so far. */
const operations = async () =>
  (await device.profiler.sections())
    .filter(({ section }) => /^(windows|candidates|finalists)/.test(section))
    .flatMap(({ kernels }) => kernels)
    .reduce((sum, { flops }) => sum + flops, 0);

async function choose(finalists) {
  const before = await operations();
  const { candidates } = await selectionNamed('measured').select({
    ...{ model, batches, method: methodNamed(values.method), settings: { alpha: 0, heal: false } },
    ...{ count: Number(layers), windowCount: 1, apart: false, batchTokens },
    measuring: { ...measuring, finalists },
  });
  return { candidates, flops: (await operations()) - before };
}

const nameOf = ({ windows }) => windows.map(({ layer, count }) => `(${layer}, ${count})`).join(' + ');
const one = await choose(measuring.candidates);
const two = await choose(Number(values.finalists));
const first = [...two.candidates].map(nameOf);
process.stdout.write('| candidate | KL in full | place after two rounds |\n|---|--:|--:|\n');
for (const candidate of one.candidates) {
  const place = first.indexOf(nameOf(candidate)) + 1;
  process.stdout.write(`| ${nameOf(candidate)} | ${candidate.kl.toFixed(5)} | ${place} |\n`);
}
const chosen = one.candidates.find(candidate => nameOf(candidate) === first[0]);
process.stdout.write(
  `\nKL of the choice: ${one.candidates[0].kl.toFixed(5)} in one round, ${chosen.kl.toFixed(5)} in two.\n` +
    `Operations of the candidates: ${(one.flops / 1e9).toFixed(0)} G in one round, ${(two.flops / 1e9).toFixed(0)} G in two: ` +
    `${(two.flops / one.flops).toFixed(2)} of it.\n`,
);
model.dispose();
await device.close();
process.exit(0);
