/**
 * Prunes a model from a script, with a progress line, and compares the result with the original.
 *
 *   node dist/examples/prune.js [MODEL [OUT]]      default: the demo model, out/example-pruned
 */
import { Device, evaluate, loadTokenizer, Model, type PruneOptions, prune } from 'rm-engine';
import { shippedPath } from 'rm-engine/replaceme';

const [model = shippedPath('demo-model'), out = 'out/example-pruned'] = process.argv.slice(2);

/** Rewrites one line on a terminal; writes nothing into a file or pipe. */
const onProgress: PruneOptions['onProgress'] = ({ phase, done, total, unit }) => {
  if (!process.stderr.isTTY) return;
  process.stderr.write(`\r\x1b[K${phase}: ${done} of ${total || '?'} ${unit}`);
};

// One device for everything below; without it each call would open its own.
await using device = await Device.open();
const report = await prune(model, out, {
  device,
  layers: 4,
  method: 'refit-heal',
  calibration: [shippedPath('demo-calibration.txt')],
  tokens: 2048,
  sequenceLength: 256,
  force: true,
  onProgress,
});
process.stderr.write(process.stderr.isTTY ? '\r\x1b[K' : '');
console.log(report.summary);
for (const warning of report.warnings) console.log(`warning: ${warning}`);

using dense = await Model.load(device, model);
using pruned = await Model.load(device, out);
const tokenizer = await loadTokenizer(model);
const text = 'She was then obliged to return home, and could think of nothing but the letter.';
const { perplexity, againstPerplexity, kl } = await evaluate(pruned, [await tokenizer.encode(text)], {
  against: dense,
});
console.log(
  `perplexity ${perplexity.toFixed(2)}, of the original ${againstPerplexity!.toFixed(2)}; KL ${kl!.toFixed(4)}`,
);
