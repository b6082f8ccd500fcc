import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { outputError, withOutputFile, withOutputFolder } from '../model/files/outputFolder.js';
import { calibrationSettings } from '../replaceme/options/pruneSettings.js';
import type { DeclaredSetting } from '../replaceme/options/setting.js';
import type { HeatMeasure } from '../replaceme/report/page/heatMap.js';
import { formatTable } from '../replaceme/report/text/textTable.js';
import type { WindowMap, WindowMeasure } from '../replaceme/windowMap/windowMap.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { each, oneOf, wholeNumber } from './options/optionTypes.js';
import { addSettings, libraryOptions } from './options/settings.js';
import { newCommand, runs } from './terminal/command.js';
import { onCommandLine } from './terminal/failure.js';

interface ProfileCommandOptions extends ModelFlags {
  layers?: number[];
  measure?: HeatMeasure;
  svg?: string;
  out?: string;
  force?: boolean;
  json?: boolean;
}

const { calibration, textField, tokens, sequenceLength, batchTokens } = calibrationSettings;

/** Texts to measure windows on. */
const textSettings: readonly DeclaredSetting[] = [
  { ...calibration, help: 'calibration texts' },
  ...[textField, tokens, sequenceLength, batchTokens],
].map(setting => ({ ...setting, group: 'Options:' }));

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

const right = (title: string) => ({ title, align: 'right' as const });
const least = (windows: readonly WindowMeasure[], measure: HeatMeasure): WindowMeasure =>
  windows.reduce((best, window) => (window[measure] < best[measure] ? window : best));

/** The nearest windows of every count: one each, or the best few of the counts given. */
export function formatWindows({ windows, layers }: WindowMap, counts?: readonly number[]): string {
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
          best.join(', '),
        ];
      });
    });
  const columns = [
    ...[right('removed'), right('keep'), { title: 'remove' }],
    ...[right('cosine'), right('residual'), right('explained'), { title: 'least' }],
  ];
  return `${formatTable(columns, rows)}Windows of ${layers} layers, counted from 0.\n`;
}

const details = `Measures every window (i, n), which keeps layer i and removes layers i+1 ... i+n: the mean cosine distance between its ends
(ReplaceMe's measure), and the residual that the best linear map on layer i's MLP output leaves on held-out texts, relative
to the squared norm of its target; "explained" is the share of the change that the map reproduces. Neither measure alone
finds the best window: prune --select measured repairs and compares candidates. The heat map shows all windows in any browser.

A model that exceeds --memory-limit is measured layer by layer, each uploaded twice. Hidden states of all tokens then wait
for the other end of their windows, on the device or in host memory; --layers n bounds the windows, and with them how many
layers' states wait.`;

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
    .option('--force', 'replace what --svg and --out write')
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
    const map = await withOutputs(folder, { svg, measure, out, force }, measured);
    if (json) terminal.json({ model: folder, ...map });
    else terminal.data(formatWindows(map, layers));
  });
}

/** Measures, and writes what the options ask for; outputs that are in the way are refused before. */
async function withOutputs(
  model: string,
  { svg, measure, out, force }: ProfileOutputs,
  measured: () => Promise<WindowMap>,
): Promise<WindowMap> {
  const [{ windowHeatMap }, { locateModel }] = await Promise.all([
    import('../replaceme/report/page/heatMap.js'),
    import('../model/hub/locate.js'),
  ]);
  const title = basename(resolve(model));
  const write = (path: string, text: string) =>
    writeFile(path, text).catch(error => Promise.reject(outputError(error, path)));
  const heatMap = (map: WindowMap, of?: HeatMeasure) =>
    windowHeatMap(map, { title, ...(of && { measure: of }) });
  const intoFolder = async () =>
    out === undefined
      ? measured()
      : withOutputFolder(out, { protect: [(await locateModel(model)).path], force }, async target => {
          const map = await measured();
          await write(join(target, 'windows.json'), `${JSON.stringify(map, null, 2)}\n`);
          for (const of of ['cosine', 'residual'] as const) {
            await write(join(target, `${of}.svg`), await heatMap(map, of));
          }
          return map;
        });
  if (svg === undefined) return await intoFolder();
  return await withOutputFile(svg, { force }, async path => {
    const map = await intoFolder();
    await write(path, await heatMap(map, measure));
    return map;
  });
}
