/**
 * Prunes the small model of this repository with our method and with ReplaceMe's, then compares both with the original
 * and with plain removal on text that none of them has seen. Run it with: npm run demo
 */
import { join, relative } from 'node:path';
import { Device, evaluate, generate, loadTokenizer, Model, prune, RmError } from 'rm-engine';
import { loadChatTemplate, readDocuments, tokenSequences } from 'rm-engine/model';
import { shippedPath } from 'rm-engine/replaceme';

const LAYERS = 4;
const CALIBRATION_TOKENS = 4096;
const HELDOUT_TOKENS = 2048;
const PROMPT = 'It was a truth universally acknowledged, that';

async function main(): Promise<void> {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  const source = shippedPath('demo-model');
  const output = (name: string) => join(shippedPath('..'), 'out', name);

  await using device = await Device.open();
  console.log(
    `Adapter: ${device.info.description}${device.info.kind === 'software' ? ' (software, no GPU)' : ''}`,
  );

  console.log(`Removing ${LAYERS} layers, ${CALIBRATION_TOKENS} tokens of calibration ...`);
  const pruned = async (method: string, folder: string) => {
    const report = await prune(source, folder, {
      device,
      layers: LAYERS,
      method,
      calibration: [shippedPath('demo-calibration.txt')],
      tokens: CALIBRATION_TOKENS,
      sequenceLength: 256,
      force: true,
    });
    console.log(`  ${method}: ${report.summary}; written and checked after ${seconds()}`);
    return report;
  };
  const replaceme = await pruned('replaceme-ls', output('demo-replaceme'));
  const refit = await pruned('refit-heal', output('demo-pruned'));

  using dense = await Model.load(device, source);
  using replaced = await Model.load(device, replaceme.output.path);
  using refitted = await Model.load(device, refit.output.path);
  const plain = dense.withLayers(replaceme.output.keptLayers);
  const tokenizer = await loadTokenizer(source);
  const heldOut = await tokenSequences(
    readDocuments(shippedPath('demo-heldout.txt')),
    tokenizer,
    await loadChatTemplate(source, tokenizer),
    { sequenceLength: 256, tokens: HELDOUT_TOKENS },
  );

  console.log(`\nOn ${HELDOUT_TOKENS} held-out tokens:\n`);
  console.log('                 layers  perplexity  KL to original  same top token');
  const rows: [string, Model][] = [
    ['original', dense],
    ['plain removal', plain],
    ['ReplaceMe', replaced],
    ['refit, healed', refitted],
  ];
  for (const [name, model] of rows) {
    const { perplexity, kl, top1 } = await evaluate(model, heldOut, { against: dense });
    const cells = [
      String(model.arch.layers).padStart(6),
      perplexity.toFixed(2).padStart(11),
      kl!.toFixed(3).padStart(15),
      `${(100 * top1!).toFixed(1)} %`.padStart(15),
    ];
    console.log(`${name.padEnd(17)}${cells.join(' ')}`);
  }

  console.log(`\nEach continues "${PROMPT}":\n`);
  const prompt = await tokenizer.encode(PROMPT);
  for (const [name, model] of rows) {
    const ids = await generate(model, prompt, { maxTokens: 40, temperature: 0.7, topK: 40, seed: 1 });
    console.log(
      `${name}:\n   ${(await tokenizer.decode(ids, { skipSpecialTokens: true })).trim().replace(/\s+/g, ' ')}\n`,
    );
  }
  const shown = relative(process.cwd(), refit.output.path);
  console.log(`Done in ${seconds()}. The pruned model: ${shown}`);
  console.log(`  what was done: ${join(shown, 'report.html')}`);
  console.log(
    'Next: npm run --silent rm-engine -- prune MODEL OUT --layers N --calib FILE   (see README.md)',
  );
}

try {
  await main();
} catch (error) {
  if (!(error instanceof RmError)) throw error;
  console.error(`error ${error.code}: ${error.message}\n  fix: ${error.fix}`);
  process.exitCode = 1;
}
