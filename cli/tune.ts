import type { Command } from 'commander';
import { left, right } from '../bench/measure.js';
import type { TuneResult } from '../bench/tune.js';
import { formatTable } from '../replaceme/report/text/textTable.js';
import { announceAdapter } from './device/gpu.js';
import { storeTuning } from './device/tuningCache.js';
import { wholeNumber } from './options/optionTypes.js';
import { newCommand, type Run, runs } from './terminal/command.js';

interface TuneCommandOptions {
  seconds: number;
  dryRun?: boolean;
  json?: boolean;
}

/** What was measured, one line per class of shapes; `*` where the choice differs from the built-in one. */
export function formatTuning({ measured }: Pick<TuneResult, 'measured'>): string {
  const time = (milliseconds: number) => milliseconds.toPrecision(3);
  const rows = measured.map(({ kernel, shapeClass, milliseconds, builtIn, chosen }) => [
    kernel,
    shapeClass,
    `${chosen === builtIn ? '' : '* '}${chosen}`,
    time(milliseconds[chosen]!),
    time(milliseconds[builtIn]!),
    (milliseconds[builtIn]! / milliseconds[chosen]!).toFixed(2),
  ]);
  return formatTable(
    [left('kernel'), left('shape'), left('variant'), right('ms'), right('built-in ms'), right('gain')],
    rows,
  );
}

/** How many classes of each kernel were not measured; their names are in the JSON. */
export function formatLeft(classes: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of classes) {
    const kernel = name.split(' ')[0]!;
    counts.set(kernel, (counts.get(kernel) ?? 0) + 1);
  }
  const parts = [...counts].map(([kernel, count]) => `${count} of ${kernel}`);
  return `for lack of time the built-in choice stays for other shapes: ${parts.join(', ')}; --seconds gives more`;
}

const details = `Each heavy kernel has several variants; which one is fastest depends on the GPU and its driver. The built-in table
knows kinds of adapters; this measures the variants on the adapter at hand, for the shapes that language models have, and
keeps the choice in the user's cache folder. All commands use it from then on. It holds for this adapter, this driver and
this version of rm-engine; delete the file to go back.`;

/** `tune` */
export function tuneCommand(signal: AbortSignal): Command {
  const command = newCommand('tune', {
    summary: 'measure which kernel variants are fastest on this machine, and keep the choice',
    details,
    examples: ['rm-engine tune', 'rm-engine tune --dry-run', 'rm-engine tune --adapter nvidia --seconds 30'],
  })
    .option('--seconds <count>', 'begin no further shape after this time', wholeNumber(1), 75)
    .option('--dry-run', 'measure and print, keep nothing')
    .option('--json', 'print one JSON object');
  return runs<TuneCommandOptions>(command, signal, async run => {
    const { options, terminal } = run;
    const { result, adapter } = await measureVariants(run, signal);
    // Printed first: it is worth seeing even where the cache cannot be written.
    if (!options.json) terminal.data(formatTuning(result));
    if (result.left.length > 0) terminal.note(formatLeft(result.left));
    const path = options.dryRun ? undefined : await storeTuning(adapter, result.tuning);
    terminal.note(path ? `kept in ${path}` : 'nothing is kept (--dry-run)');
    if (options.json) terminal.json({ adapter, ...result, path: path ?? null });
  });
}

async function measureVariants(run: Run<TuneCommandOptions>, signal: AbortSignal) {
  const [{ Device }, { tune }] = await Promise.all([
    import('../engine/device.js'),
    import('../bench/tune.js'),
  ]);
  // Without an earlier tuning in force: the built-in choice is what the others are compared with.
  const device = await Device.open(run.deviceOptions);
  try {
    announceAdapter(device, run);
    const result = await tune(device, { seconds: run.options.seconds, onProgress: run.progress, signal });
    return { result, adapter: device.info };
  } finally {
    await device.close();
  }
}
