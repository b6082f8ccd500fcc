import { readdir } from 'node:fs/promises';
import { checkArguments } from '../../engine/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { aPath } from '../arguments/forms.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { type ModelSource, requiredJsonOf } from '../checkpoint/modelSource.js';
import { leftoverShards } from '../checkpoint/safetensors.js';
import {
  architectureFromConfig,
  classWarnings,
  compressedWeights,
  unknownFields,
} from '../families/index.js';
import { openModelSource } from './openModelSource.js';
import { readArchitecture } from './readArchitecture.js';
import { unreadTensors } from './unreadTensors.js';

/**
 * What somebody should know of a model before results of it are believed: where its files say two things, which one counts,
 * and which weights nothing reads. Everything is done as transformers does it. Empty for an ordinary model.
 *
 * @throws RmError as Model.load for a model that cannot be read.
 */
export async function modelWarnings(model: string): Promise<string[]> {
  checkArguments('modelWarnings', { model }, { model: aPath });
  const source = await openModelSource(model);
  const config = await requiredJsonOf(source, 'config.json');
  const arch = await readArchitecture(model);
  const checkpoint = await source.openCheckpoint();
  try {
    const path = source.nameOf('config.json');
    return [
      ...compressed(config, path),
      ...(arch.vision ? [] : classWarnings(config, path)),
      ...untied(architectureFromConfig(config, path), arch, path),
      ...unknown(config, path),
      ...(await leftovers(source)),
      ...unread(model, arch, await unreadTensors(arch, checkpoint), checkpoint),
    ];
  } finally {
    await checkpoint.close();
  }
}

function compressed(config: unknown, path: string): string[] {
  const found = compressedWeights(config, path);
  if (!found) return [];
  return [
    `${path}: the weights are compressed (${found.compression.label}): they are read as ${found.dtype}, and a result is written whole, without "quantization_config"`,
  ];
}

function untied(stated: Architecture, { tiedEmbeddings, tensorNames }: Architecture, path: string): string[] {
  if (!stated.tiedEmbeddings || tiedEmbeddings) return [];
  return [
    `${path} says that the head is tied to the embedding ("tie_word_embeddings"), but ${tensorNames.ownHead} is stored with other values: ` +
      'it is used, as transformers does, and a result says "tie_word_embeddings": false',
  ];
}

async function leftovers({ folder }: ModelSource): Promise<string[]> {
  if (folder === null) return [];
  const { read, left } = await leftoverShards(folder, await readdir(folder).catch(() => []));
  if (left.length === 0) return [];
  return [
    `${folder}: ${read} is read, as transformers does; ${counted(left, 'file')} of other weights beside it ${left.length === 1 ? 'is' : 'are'} not (${example(left)})`,
  ];
}

function unknown(config: unknown, path: string): string[] {
  const { others } = unknownFields(config, path);
  if (others.length === 0) return [];
  return [`${path}: nothing here reads ${counted(others, 'field')} (${example(others)})`];
}

function unread(
  model: string,
  { layers, tensorNames: { layerPrefix } }: Architecture,
  names: readonly string[],
  checkpoint: Checkpoint,
): string[] {
  if (names.length === 0) return [];
  const numbers = names
    .filter(name => name.startsWith(layerPrefix))
    .map(name => Number.parseInt(name.slice(layerPrefix.length), 10));
  const beyond = numbers.filter(number => number >= layers).length;
  const reason =
    beyond === names.length
      ? `they belong to layers beyond the ${layers} that config.json states`
      : 'config.json does not mention them, and transformers ignores them too';
  return [
    `${model}: ${names.length} of ${checkpoint.names.length} tensors are not read (${example(names)}): ${reason}. ` +
      'If the model needs them, config.json is wrong, and so is every number measured here',
  ];
}

const counted = (items: readonly string[], what: string): string =>
  `${items.length} ${what}${items.length === 1 ? '' : 's'}`;

const example = ([first, ...rest]: readonly string[]): string =>
  rest.length === 0 ? first! : `for example ${first}`;
