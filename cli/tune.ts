import type { Command } from 'commander';
import type { TuneResult } from '../bench/tune.js';
import { newCommand, type Run, runs } from './command.js';
import { announceAdapter, load } from './gpu.js';
import { wholeNumber } from './optionTypes.js';
import { formatSeconds } from './progressReport.js';
import { formatTable } from './table.js';
import { storeTuning } from './tuningCache.js';

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
  const right = (title: string) => ({ title, align: 'right' as const });
  return formatTable(
    [
      { title: 'kernel' },
      { title: 'shape' },
      { title: 'variant' },
      right('ms'),
      right('built-in ms'),
      right('gain'),
    ],
    rows,
  );
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
    const path = options.dryRun ? undefined : await storeTuning(adapter, result.tuning);
    if (result.left.length > 0) terminal.note(`not measured for lack of time: ${result.left.join('; ')}`);
    if (options.json) {
      terminal.json({ adapter, ...result, path: path ?? null });
      return;
    }
    terminal.data(formatTuning(result));
    terminal.note(`${result.measured.length} classes of shapes in ${formatSeconds(result.seconds)}`);
    terminal.note(path ? `kept in ${path}` : 'nothing is kept (--dry-run)');
  });
}

async function measureVariants(run: Run<TuneCommandOptions>, signal: AbortSignal) {
  const [{ Device }, { tune }] = await load(() =>
    Promise.all([import('../engine/device.js'), import('../bench/tune.js')]),
  );
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
