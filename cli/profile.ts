import { basename, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { writeOutputFile } from '../model/files/outputError.js';
import { withOutputFile } from '../model/files/outputFile.js';
import { withOutputFolder } from '../model/files/outputFolder.js';
import { type FolderKind, textKind } from '../model/files/outputKind.js';
import { calibrationSettings } from '../replaceme/options/pruneSettings.js';
import type { DeclaredSetting } from '../replaceme/options/setting.js';
import type { WindowProfile } from '../replaceme/profile.js';
import type { HeatMeasure } from '../replaceme/report/page/heatMap.js';
import { formatTable, right } from '../replaceme/report/text/textTable.js';
import { lastRemoved } from '../replaceme/run/window.js';
import type { WindowMap, WindowMeasure } from '../replaceme/windowMap/windowMap.js';
import { withDevice } from './device/gpu.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { each, oneOf, wholeNumber } from './options/optionTypes.js';
import { addSettings, libraryOptions } from './options/settings.js';
import { newCommand, runs } from './terminal/command.js';
import { onCommandLine } from './terminal/failure.js';

interface ProfileCommandOptions extends ModelFlags {
  layers?: number[];
  calib?: string[];
  measure?: HeatMeasure;
  svg?: string;
  out?: string;
  force?: boolean;
  json?: boolean;
}

const { calibration, textField, skipInvalid, date, tokens, sequenceLength, batchTokens } =
  calibrationSettings;

/** Texts to measure windows on. */
const textSettings: readonly DeclaredSetting[] = [
  { ...calibration, help: 'calibration texts' },
  ...[textField, skipInvalid, date, tokens, sequenceLength, batchTokens],
].map(setting => ({ ...setting, group: 'Options:' }));

const heatMapKind = textKind(
  'a heat map of rm-engine profile',
  /^<svg xmlns="[^"]*" font-family='[^']*' class="drawing" /,
);
const windowsKind = textKind('windows of rm-engine profile', /^\{\s*"layers": \d+,\s*"tokens": \d+,/);

/** What --out writes. */
const folderFiles = new Map([
  ['windows.json', windowsKind],
  ['cosine.svg', heatMapKind],
  ['residual.svg', heatMapKind],
]);
const folderKind: FolderKind = {
  name: 'a folder of rm-engine profile',
  isOne: folder => windowsKind.isOne(join(folder, 'windows.json')),
  holds: (name, path) => folderFiles.get(name)?.isOne(path) === true,
};

/** What `profile` writes. */
interface ProfileOutputs {
  /** The heat map of --svg, and its measure. */
  readonly svg: string | undefined;
  readonly measure: HeatMeasure | undefined;
  /** The folder of --out. */
  readonly out: string | undefined;
  readonly force: boolean;
}

/** Windows shown of every count. */
const SHOWN = 5;

const least = (windows: readonly WindowMeasure[], measure: HeatMeasure): WindowMeasure =>
  windows.reduce((best, window) => (window[measure] < best[measure] ? window : best));

/** The part of a profile that its table shows. */
type Shown = Pick<WindowProfile, 'windows' | 'layers' | 'swaps'>;

/** The most that a swap of two neighbours among the layers of a window costs. */
const largestSwap = (window: WindowMeasure, swaps: NonNullable<Shown['swaps']>): number =>
  Math.max(
    ...swaps.filter(({ layer }) => layer >= window.layer && layer < lastRemoved(window)).map(({ kl }) => kl),
  );

/** The nearest windows of every count: one each, or the best few of the counts given. */
export function formatWindows({ windows, layers, swaps }: Shown, counts?: readonly number[]): string {
  const rows = [...new Set(windows.map(({ count }) => count))]
    .filter(count => !counts || counts.includes(count))
    .flatMap(count => {
      const row = windows.filter(window => window.count === count);
      const marked = { cosine: least(row, 'cosine'), residual: least(row, 'residual') };
      const nearest = [...row].sort((a, b) => a.cosine - b.cosine).slice(0, counts ? SHOWN : 1);
      return [...new Set([...nearest, marked.residual])].map(window => {
        const { layer, cosine, residual, unexplained } = window;
        const best = (['cosine', 'residual'] as const).filter(name => marked[name] === window);
        return [
          ...[`${count}`, `${layer}`, count === 1 ? `${layer + 1}` : `${layer + 1}..${layer + count}`],
          ...[cosine.toFixed(4), residual.toFixed(4), `${Math.round(100 * (1 - unexplained))} %`],
          ...(swaps ? [largestSwap(window, swaps).toFixed(4)] : []),
          best.join(', '),
        ];
      });
    });
  const columns = [
    ...[right('removed'), right('keep'), { title: 'remove' }],
    ...[right('cosine'), right('residual'), right('explained')],
    ...[...(swaps ? [right('swap KL')] : []), { title: 'least' }],
  ];
  return `${formatTable(columns, rows)}Windows of ${layers} layers, counted from 0.\n`;
}

const details = `Measures every window (i, n), which keeps layer i and removes layers i+1 ... i+n: the mean cosine distance between its ends
(ReplaceMe's measure), and the residual that the best linear map on layer i's MLP output leaves on held-out texts, relative
to the squared norm of its target; "explained" is the share of the change that the map reproduces. Neither measure alone
finds the best window: prune --select measured repairs and compares candidates. "swap KL" is the most that the divergence from
the original model rises, in nats, when two neighbours among layers i ... i+n change places; --json and --out list it for
all neighbours. The heat map shows all windows in any browser.

A model that exceeds --memory-limit is measured layer by layer, each uploaded twice. Hidden states of all tokens then wait
for the other end of their windows, on the device or in host memory; --layers n bounds the windows, and with them how many
layers' states wait. Swaps are left out then.`;

/** `profile MODEL` */
export function profileCommand(signal: AbortSignal): Command {
  const command = newCommand('profile', {
    summary: 'map of the windows of layers that could be removed',
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine profile ./SmolLM2-135M-Instruct --svg windows.svg',
      'rm-engine profile ./SmolLM2-135M-Instruct --calib chat.jsonl wiki.txt --layers 4 7 --json',
    ],
  }).option(
    '--layers <n...>',
    'numbers of layers to show (default: the best window of each)',
    each(wholeNumber(1)),
  );
  addSettings(command, textSettings)
    .option('--svg <file>', 'write a heat map')
    .option('--measure <name>', 'of the heat map: cosine (default) or residual', oneOf('cosine', 'residual'))
    .option('--out <folder>', 'write windows.json and a heat map of either measure')
    .option('--force', 'replace what an earlier run wrote')
    .option('--json', 'print one JSON object');
  return runs<ProfileCommandOptions>(withDownload(command), signal, async (run, model) => {
    const { options, terminal, progress } = run;
    const { layers, svg, measure, out, force = false, json } = options;
    const folder = model as string;
    const { profileWindows } = await import('../replaceme/profile.js');
    await findModels(run, [folder]);
    const measured = () =>
      withDevice(run, device =>
        profileWindows(folder, {
          ...libraryOptions(textSettings, { ...options }),
          // Shorter windows cost little beside the longest.
          ...(layers && { longest: Math.max(...layers) }),
          onNotice: text => terminal.note(onCommandLine(text)),
          ...{ device, onProgress: progress, signal },
        }),
      );
    const inputs = await inputPaths([folder], options.calib);
    const map = await withOutputs(folder, inputs, { svg, measure, out, force }, measured);
    if (json) terminal.json({ model: folder, ...map });
    else terminal.data(formatWindows(map, layers));
  });
}

const present = (path: string | undefined): string[] => (path === undefined ? [] : [path]);

/** Measures, and writes what the options ask for; outputs that are in the way are refused before. */
async function withOutputs(
  model: string,
  inputs: readonly string[],
  { svg, measure, out, force }: ProfileOutputs,
  measured: () => Promise<WindowProfile>,
): Promise<WindowProfile> {
  const { windowHeatMap } = await import('../replaceme/report/page/heatMap.js');
  const title = basename(resolve(model));
  const heatMap = (map: WindowMap, of?: HeatMeasure) =>
    windowHeatMap(map, { title, ...(of && { measure: of }) });
  const intoFolder = async () =>
    out === undefined
      ? measured()
      : withOutputFolder(out, folderKind, { protect: [...inputs, ...present(svg)], force }, async target => {
          const map = await measured();
          await writeOutputFile(join(target, 'windows.json'), `${JSON.stringify(map, null, 2)}\n`);
          for (const of of ['cosine', 'residual'] as const) {
            await writeOutputFile(join(target, `${of}.svg`), await heatMap(map, of));
          }
          return map;
        });
  if (svg === undefined) return await intoFolder();
  return await withOutputFile(
    svg,
    heatMapKind,
    { force, protect: [...inputs, ...present(out)] },
    async path => {
      const map = await intoFolder();
      await writeOutputFile(path, await heatMap(map, measure));
      return map;
    },
  );
}
