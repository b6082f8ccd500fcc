import type { Command } from 'commander';
import { formatBytes, plural } from '../engine/format.js';
import type { ModelSummary } from '../model/source/inspectModel.js';
import { formatFields, formatTable } from '../replaceme/report/text/textTable.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { newCommand, runs } from './terminal/command.js';

const thousands = (count: number): string => count.toLocaleString('en-US');

const describeImages = ({ imageSize, patchSize, projection }: NonNullable<ModelSummary['images']>): string =>
  `${imageSize}x${imageSize} pixels, patches of ${patchSize}x${patchSize}${projection === null ? '' : `, embeddings of ${projection}`}`;

/** What a layer's experts are, what is computed of them, and what a repair changes. */
function describeExperts(
  { count, perToken, features, shared, layers }: NonNullable<ModelSummary['experts']>,
  all: number,
): readonly [string, string] {
  const where = layers === all ? '' : `, in ${layers} of ${all} layers`;
  const beside = shared > 0 ? `, and a shared one of ${shared}` : '';
  const text = `${count} of ${features} features, ${perToken} for a token${beside}${where}
only those that tokens use are computed; T is folded into each; a refit
fits each to its own tokens; the router stays`;
  return ['experts', text];
}

/** Names a few tensors; counts many, such as the text tower of a whole CLIP (--json lists all). */
const describeUnused = (names: readonly string[]): string =>
  names.length <= 3 ? names.join(', ') : `${names.length} tensors, for example ${names[0]}`;

const describeCache = ({ cachePerToken, cacheStates = 0 }: ModelSummary['bytes']): string =>
  [
    `${formatBytes(cachePerToken)} per token`,
    ...(cacheStates > 0 ? [`${formatBytes(cacheStates)} per sequence in layers without attention`] : []),
  ].join(', ');

/** The summary as text: dimensions and memory, then parameters by part. @param refusing methods that cannot repair it. */
export function formatSummary(summary: ModelSummary, refusing: readonly string[] = []): string {
  const { parameters, bytes, ropes, dtypes, images, compressed, experts, layerKinds } = summary;
  const attention = `${summary.heads} heads of ${summary.headDim}, ${summary.kvHeads} for keys and values`;
  const fields = formatFields([
    ['model', summary.path],
    ['family', summary.family],
    ['layers', `${summary.layers} of ${thousands(parameters.perLayer)} parameters`],
    ...(layerKinds
      ? [
          [
            'kinds of layers',
            Object.entries(layerKinds)
              .map(([kind, count]) => `${kind} (${count})`)
              .join(', '),
          ] as const,
        ]
      : []),
    ['hidden', `${summary.hidden}`],
    ['intermediate', `${summary.intermediate}${experts ? ' for a token' : ''}`],
    ...(experts ? [describeExperts(experts, summary.layers)] : []),
    ['attention', attention],
    images
      ? ['images', describeImages(images)]
      : [
          'vocabulary',
          `${thousands(summary.vocab)}${summary.tiedEmbeddings ? ' (embedding and head are tied)' : ''}`,
        ],
    [
      'context',
      [
        `${thousands(summary.contextLength)} tokens`,
        ...ropes.map(({ kind, theta }) => `RoPE ${kind}, theta ${theta}`),
      ].join(', '),
    ],
    [
      'dtype',
      Object.entries(dtypes)
        .map(([dtype, count]) => `${dtype} (${plural(count, 'tensor')})`)
        .join(', '),
    ],
    ...(compressed
      ? [['compressed', `${compressed.method}; read and written as ${compressed.dtype}`] as const]
      : []),
    [
      'weights',
      summary.stored
        ? `${formatBytes(bytes.checkpoint)} on disk, ${formatBytes(bytes.weights)} on the device`
        : `none here; ${formatBytes(bytes.weights)} if config.json is right`,
    ],
    ...(images ? [] : [['KV cache', describeCache(bytes)] as const]),
    ['methods', refusing.length === 0 ? 'all' : `all but ${refusing.join(', ')}`],
    ...(summary.unusedTensors.length ? [['not used', describeUnused(summary.unusedTensors)] as const] : []),
  ]);
  const parts = ['embedding', 'attention', 'mlp', 'norms', 'lmHead', 'total'] as const;
  const table = formatTable(
    [{ title: 'part' }, { title: 'parameters', align: 'right' }, { title: 'share', align: 'right' }],
    parts.map(part => [
      part,
      thousands(parameters[part]),
      `${((100 * parameters[part]) / parameters.total).toFixed(1)} %`,
    ]),
  );
  return `${fields}\n${table}`;
}

/** `inspect MODEL` */
export function inspectCommand(signal: AbortSignal): Command {
  const command = newCommand('inspect', {
    summary: "show a model's dimensions, parameters and memory",
    details:
      'Reads only config.json and the headers of the checkpoint. Needs no GPU. A config.json alone is enough: what it describes is supported if a summary comes, else the message says why not.',
    args: [['<model>', `${MODEL_TEXT}; or a config.json`]],
    examples: [
      'rm-engine inspect ./SmolLM2-135M-Instruct',
      'rm-engine inspect ./pruned --json',
      'rm-engine inspect ./config.json',
    ],
  }).option('--json', 'print one JSON object');
  return runs<{ json?: boolean } & ModelFlags>(withDownload(command), signal, async (run, model) => {
    const { options, terminal } = run;
    await findModels(run, [model as string]);
    const { inspectModel } = await import('../model/source/inspectModel.js');
    const summary = await inspectModel(model as string);
    if (options.json) return terminal.json(summary);
    const { readArchitecture } = await import('../model/source/readArchitecture.js');
    const { methods } = await import('../replaceme/methods/index.js');
    const arch = await readArchitecture(model as string);
    const refusing = methods.filter(({ refusal }) => refusal?.(arch) !== undefined);
    terminal.data(
      formatSummary(
        summary,
        refusing.map(({ name }) => name),
      ),
    );
  });
}
