// Prints the table of docs/memory.md: what a prune of well-known models takes on cards of several sizes, and what two rounds
// save of the operations of `measured`'s candidates. Usage after a build:
// node scripts/memoryPlans.mjs
import { modelConfigs, withConfigFolders } from '../dist/bench/modelConfigs.js';
import { formatBytes, formatSeconds } from '../dist/engine/format.js';
import { planPrune } from '../dist/replaceme/index.js';
import { factsOf } from '../dist/replaceme/planning/assumedDevice.js';
import { planRun } from '../dist/replaceme/planning/plan.js';
import { judgingFlops } from '../dist/replaceme/planning/selectionFlops.js';
import { checkPruneRequest } from '../dist/replaceme/request/request.js';

const gigabytes = [24, 48, 80, 141];

const weights = {
  device: 'on the device',
  streamed: 'two layers at a time',
  'one by one': 'one layer at a time',
};

const card = memory => ({ name: 'card', memory: memory * 1e9, matmulGflops: 38000, uploadGigabytes: 4 });

/** Operations of the candidates in one round, in which all are repaired and judged in full, and in two. */
async function candidates(model, memory) {
  const options = { ratio: 0.25, tokens: 131_072 };
  const request = await checkPruneRequest(model, undefined, options, 'described');
  const run = await planRun(model, options, request, factsOf(card(memory)));
  const { rounds } = run.selecting;
  const inRounds = of => {
    const { candidates, finalists } = judgingFlops({ ...run, selecting: { ...run.selecting, rounds: of } });
    return candidates + finalists;
  };
  return [inRounds({ ...rounds, finalists: rounds.sets.length }), inRounds(rounds)];
}

/** A plan in a cell: device memory, where weights and states are, host memory. */
async function cell(model, memory) {
  const assume = card(memory);
  try {
    const { memory: bytes, placement, batchTokens, phases } = await planPrune(model, { ratio: 0.25, assume });
    const states =
      placement.states.place === 'host' ? `, states on the host (${formatBytes(bytes.host)})` : '';
    const seconds = phases.reduce((sum, phase) => sum + phase.seconds, 0);
    return `${formatBytes(bytes.total)}: weights ${weights[placement.weights]}${states}, ${batchTokens} rows, ${formatSeconds(seconds)}`;
  } catch (error) {
    return `${error.message}. ${error.fix}`;
  }
}

await withConfigFolders(async folderOf => {
  const lines = [
    `| | ${gigabytes.map(size => `${size} GB`).join(' | ')} |`,
    `|---${'|---'.repeat(gigabytes.length)}|`,
  ];
  for (const name of Object.keys(modelConfigs)) {
    const cells = [];
    for (const memory of gigabytes) cells.push(await cell(folderOf(name), memory));
    lines.push(`| ${name} | ${cells.join(' | ')} |`);
  }
  process.stdout.write(`${lines.join('\n')}\n`);
  const [one, two] = await candidates(folderOf('Llama-3-8B'), 80);
  process.stdout.write(
    `\nLlama-3-8B, 131,072 tokens, 80 GB: candidates of \`measured\` ${(one / 1e15).toFixed(2)}e15 operations in one round, ` +
      `${(two / 1e15).toFixed(2)}e15 in two: ${(two / one).toFixed(2)}\n`,
  );
});
