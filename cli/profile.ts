import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { outputError, withOutputFile, withOutputFolder } from '../model/files/outputFolder.js';
import type { HeatMeasure } from '../replaceme/report/page/heatMap.js';
import { formatTable } from '../replaceme/report/text/textTable.js';
import type { WindowMap, WindowMeasure } from '../replaceme/windowMap/windowMap.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './options/models.js';
import { each, oneOf, wholeNumber } from './options/optionTypes.js';
import { newCommand, runs } from './terminal/command.js';

interface ProfileCommandOptions extends ModelFlags {
  calib?: string[];
  textField?: string;
  tokens?: number;
  sequenceLength?: number;
  batchTokens?: number;
  layers?: number[];
  measure?: HeatMeasure;
  svg?: string;
  out?: string;
  force?: boolean;
  json?: boolean;
}

/** Windows shown of every count that was asked for. */
const SHOWN = 5;

const right = (title: string) => ({ title, align: 'right' as const });
const least = (windows: readonly WindowMeasure[], measure: HeatMeasure): WindowMeasure =>
  windows.reduce((best, window) => (window[measure] < best[measure] ? window : best));

/** The nearest windows of every count: one each, or the best few of the counts asked for. */
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

const details = `Of every window (i, n), which keeps layer i and removes layers i+1 ... i+n: the mean cosine distance between the ends
(ReplaceMe's measure), and the residual that the best linear map on layer i's MLP output leaves on held-out texts,
relative to the squared norm of what is to be reproduced; "explained" is the share of the change that the map makes up
for. Neither alone finds the best window: prune --select measured repairs and compares candidates.
The heat map shows all windows; it needs nothing but a browser.

A model that does not fit --memory-limit is measured layer by layer, each uploaded twice. Hidden states of all tokens then wait
for the other end of their windows, on the device or in host memory: --layers n, the longest windows, says of how many layers.`;

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
  })
    .option(
      '--layers <n...>',
      'numbers of layers to show (default: the best window of each)',
      each(wholeNumber(1)),
    )
    .option('--calib <files...>', 'calibration texts (default: a small set that comes with rm-engine)')
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--tokens <count>', 'calibration tokens at most (default: by the device)', wholeNumber(1))
    .option('--sequence-length <count>', 'tokens of the longest sequence (default: 1024)', wholeNumber(1))
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', wholeNumber(1))
    .option('--svg <file>', 'write a heat map')
    .option('--measure <name>', 'of the heat map: cosine (default) or residual', oneOf('cosine', 'residual'))
    .option('--out <folder>', 'write windows.json and a heat map of either measure')
    .option('--force', 'replace what --svg and --out write')
    .option('--json', 'print one JSON object');
  return runs<ProfileCommandOptions>(withDownload(command), signal, async (run, model) => {
    const { options, terminal, progress } = run;
    const {
      calib,
      textField,
      tokens,
      sequenceLength,
      batchTokens,
      layers,
      svg,
      out,
      force = false,
    } = options;
    const folder = model as string;
    const [{ profileWindows }, { windowHeatMap }, { locateModel }] = await Promise.all([
      import('../replaceme/profile.js'),
      import('../replaceme/report/page/heatMap.js'),
      import('../model/hub/locate.js'),
    ]);
    await findModels(run, [folder]);
    const title = basename(resolve(folder));
    const measured = () =>
      withDevice(run, device =>
        profileWindows(folder, {
          ...{ calibration: calib, textField, tokens, sequenceLength, batchTokens },
          // Shorter windows cost little beside the longest.
          ...(layers && { longest: Math.max(...layers) }),
          ...{ device, onProgress: progress, onNotice: (text: string) => terminal.note(text), signal },
        }),
      );
    const write = (path: string, text: string) =>
      writeFile(path, text).catch(error => Promise.reject(outputError(error, path)));
    const picture = (map: WindowMap, measure?: HeatMeasure) =>
      windowHeatMap(map, { title, ...(measure && { measure }) });
    const intoFolder = async () =>
      out === undefined
        ? measured()
        : withOutputFolder(out, { protect: [(await locateModel(folder)).path], force }, async target => {
            const map = await measured();
            await write(join(target, 'windows.json'), `${JSON.stringify(map, null, 2)}\n`);
            for (const measure of ['cosine', 'residual'] as const) {
              await write(join(target, `${measure}.svg`), await picture(map, measure));
            }
            return map;
          });
    const profile =
      svg === undefined
        ? await intoFolder()
        : await withOutputFile(svg, { force }, async path => {
            const map = await intoFolder();
            await write(path, await picture(map, options.measure));
            return map;
          });
    if (options.json) terminal.json({ model: folder, ...profile });
    else terminal.data(formatWindows(profile, layers));
  });
}
