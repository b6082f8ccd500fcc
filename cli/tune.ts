import type { Command } from 'commander';
import { left, right } from '../bench/measure.js';
import type { TuneResult } from '../bench/tune.js';
import { formatNumber } from '../engine/format.js';
import { formatTable } from '../replaceme/report/text/textTable.js';
import { keepVerdicts, warnOfWrong } from './device/checkedVariants.js';
import { announceAdapter } from './device/gpu.js';
import { storeTuning } from './device/tuningCache.js';
import { wholeNumber } from './options/optionTypes.js';
import { newCommand, type Run, runs } from './terminal/command.js';
import { withoutDawnWarnings } from './terminal/dawnWarnings.js';

interface TuneCommandOptions {
  seconds: number;
  dryRun?: boolean;
  json?: boolean;
}

/** The measurements, one line per class of shapes; `*` marks a choice that differs from the built-in one. */
export function formatTuning({ measured }: Pick<TuneResult, 'measured'>): string {
  const time = (milliseconds: number) => formatNumber(milliseconds);
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

/** Counts the shape classes of each kernel that were not measured; --json names them. */
function formatLeft(classes: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of classes) {
    const kernel = name.split(' ')[0]!;
    counts.set(kernel, (counts.get(kernel) ?? 0) + 1);
  }
  const parts = [...counts].map(([kernel, count]) => `${count} of ${kernel}`);
  return `time ran out, other shapes keep the built-in choice: ${parts.join(', ')}; raise --seconds to measure them`;
}

const details = `Every heavy kernel has several variants, and the fastest one depends on the GPU and its driver. The built-in table only
knows kinds of adapters. This command compares the variants on your adapter with the host and measures them, for the shapes
of language models, and stores the fastest in the user's cache folder. All commands then use them, until the adapter, the driver or the version of
rm-engine changes. To undo, delete the file.`;

/** `tune` */
export function tuneCommand(signal: AbortSignal): Command {
  const command = newCommand('tune', {
    summary: 'find the fastest kernel variants on this machine and use them from now on',
    details,
    examples: ['rm-engine tune', 'rm-engine tune --dry-run', 'rm-engine tune --adapter nvidia --seconds 30'],
  })
    .option('--seconds <count>', 'start no new shape after this time', wholeNumber(1), 75)
    .option('--dry-run', 'measure and print, but store nothing')
    .option('--json', 'print one JSON object');
  return runs<TuneCommandOptions>(command, signal, async run => {
    const { options, terminal } = run;
    const { result, adapter } = await measureVariants(run, signal);
    // Printed first: worth seeing even if the cache cannot be written.
    if (!options.json) terminal.data(formatTuning(result));
    if (result.left.length > 0) terminal.note(formatLeft(result.left));
    const path = options.dryRun ? undefined : await storeTuning(adapter, result.tuning);
    terminal.note(path ? `stored in ${path}` : 'nothing is stored (--dry-run)');
    if (options.json) terminal.json({ adapter, ...result, path: path ?? null });
  });
}

async function measureVariants(run: Run<TuneCommandOptions>, signal: AbortSignal) {
  const [{ Device }, { tune }] = await Promise.all([
    import('../engine/device.js'),
    import('../bench/tune.js'),
  ]);
  // Without an earlier tuning: the others are compared with the built-in choice.
  const device = await withoutDawnWarnings(
    () => Device.open({ ...run.deviceOptions, robustness: false }),
    run.terminal,
  );
  try {
    announceAdapter(device, run);
    const result = await tune(device, { seconds: run.options.seconds, onProgress: run.progress, signal });
    warnOfWrong(device, result.wrong, run.terminal);
    await keepVerdicts(device, run.terminal);
    return { result, adapter: device.info };
  } finally {
    await device.close();
  }
}
