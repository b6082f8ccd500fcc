import { elementCount, formatBytes, formatSeconds, RmError } from '../engine/index.js';
import { type Architecture, architectureFromConfig, expectedTensors } from '../model/index.js';
import {
  type Card,
  compilerOf,
  ISSUED,
  MATRIX_SHARE,
  MEMORY_SHARE,
  multiplyAddShares,
  type PlannedPhase,
  type PrunePlan,
  planPrune,
  prefillSeconds,
  tokenSeconds,
} from '../replaceme/index.js';
import {
  type Benchmark,
  type BenchTable,
  type BenchText,
  digits,
  environment,
  left,
  percent,
  right,
} from './measure.js';
import { modelConfigs, withConfigFolders } from './modelConfigs.js';

/** The models of `bench predict`. */
const MODELS = ['Llama-3.2-1B', 'Llama-3-8B', 'Llama-3-70B'] as const;
/** Tokens of a sequence, and behind how many others a token is written. */
const PREFILLS = [1024, 8192];
const BEHIND = 1024;
/** Share of the layers that go, with the defaults of `prune`. */
const RATIO = 0.25;

/** What a model should take on a card. */
export interface ModelPrediction {
  readonly model: string;
  readonly weightBytes: number;
  /** Tokens a second of one sequence of so many tokens, and behind 1024 others; undefined where the weights do not fit. */
  readonly prefill?: readonly { readonly tokens: number; readonly tokensPerSecond: number }[];
  readonly decode?: number;
  /** Of `prune --ratio 25%`; undefined where no plan fits. */
  readonly prune?: Pick<PrunePlan, 'phases' | 'tokens' | 'memory' | 'placement' | 'rates'>;
}

export interface Prediction extends Benchmark {
  readonly card: Card;
  readonly models: readonly ModelPrediction[];
}

/** Bytes of a model's weights in bf16, and of those outside its layers. */
export function bf16Bytes(arch: Architecture): { all: number; outer: number } {
  const bytes = (tensors: ReturnType<typeof expectedTensors>) =>
    tensors.reduce((sum, { shape }) => sum + 2 * elementCount(shape), 0);
  const tensors = expectedTensors(arch);
  return { all: bytes(tensors), outer: bytes(tensors.filter(({ layer }) => layer === null)) };
}

async function predictModel(card: Card, model: string, folder: string): Promise<ModelPrediction> {
  const arch = architectureFromConfig({ ...modelConfigs[model] }, 'config.json');
  const weightBytes = bf16Bytes(arch).all;
  const fits = weightBytes < card.memory;
  const plan = await planPrune(folder, { ratio: RATIO, assume: card }).catch((error: unknown) => {
    if (error instanceof RmError && error.code === 'OUT_OF_MEMORY') return undefined;
    throw error;
  });
  return {
    ...{ model, weightBytes },
    ...(fits && {
      prefill: PREFILLS.map(tokens => ({
        tokens,
        tokensPerSecond: tokens / prefillSeconds(card, arch, tokens),
      })),
      decode: 1 / tokenSeconds(card, arch, BEHIND),
    }),
    ...(plan && { prune: plan }),
  };
}

const secondsOf = (phases: readonly PlannedPhase[]) => phases.reduce((sum, { seconds }) => sum + seconds, 0);

/** Predicts prefill, decoding and the phases of a prune of models of 1B, 8B and 70B on a card, from its data sheet. */
export async function predictCard(card: Card): Promise<Prediction> {
  const models = await withConfigFolders(async folderOf => {
    const all: ModelPrediction[] = [];
    for (const model of MODELS) all.push(await predictModel(card, model, folderOf(model)));
    return all;
  });
  const rate = (name: string, value: number) => ({
    ...{ name, value, unit: 'tokens/s', better: 'higher' as const },
  });
  return {
    ...environment({ info: { ...card.info, architecture: '' } }),
    ...{ bench: 'predict', card, models },
    metrics: models.flatMap(({ model, prefill = [], decode, prune }) => [
      ...prefill.map(({ tokens, tokensPerSecond }) => rate(`${model}, prefill ${tokens}`, tokensPerSecond)),
      ...(decode === undefined ? [] : [rate(`${model}, decode`, decode)]),
      ...(prune
        ? [
            {
              ...{ name: `${model}, prune`, value: secondsOf(prune.phases), unit: 's' },
              better: 'lower' as const,
            },
          ]
        : []),
    ]),
  };
}

/** A row of the table: a title, and a cell for each model. */
const row = (
  models: readonly ModelPrediction[],
  title: string,
  cell: (of: ModelPrediction) => string | undefined,
): string[] => [title, ...models.map(of => cell(of) ?? 'does not fit')];

function modelsTable({ card, models }: Prediction): BenchTable {
  const phases = [...new Set(models.flatMap(({ prune }) => prune?.phases.map(({ name }) => name) ?? []))];
  const phase = (name: string) => (of: ModelPrediction) => {
    const found = of.prune?.phases.find(phase => phase.name === name);
    return (
      found && `${formatSeconds(found.seconds)}${found.flops > 0 ? `, ${digits(found.flops / 1e12)} TF` : ''}`
    );
  };
  return {
    columns: [left(`predicted on ${card.name}`), ...models.map(({ model }) => right(model))],
    rows: [
      row(models, 'weights, bf16', ({ weightBytes }) => formatBytes(weightBytes)),
      ...PREFILLS.map((tokens, i) =>
        row(
          models,
          `prefill ${tokens}, tokens/s`,
          ({ prefill }) => prefill && digits(prefill[i]!.tokensPerSecond),
        ),
      ),
      row(models, `decode behind ${BEHIND}, tokens/s`, ({ decode }) =>
        decode === undefined ? undefined : digits(decode),
      ),
      row(models, 'prune 25 %: calibration tokens', ({ prune }) => prune && `${prune.tokens}`),
      row(models, '  device memory', ({ prune }) => prune && formatBytes(prune.memory.total)),
      row(models, '  weights', ({ prune }) => prune?.placement.weights),
      row(models, '  a layer, TFLOP/s', ({ prune }) => prune && digits(prune.rates.layerGflops / 1000)),
      ...phases.map(name => row(models, `  ${name}`, phase(name))),
      row(models, '  whole', ({ prune }) => prune && formatSeconds(secondsOf(prune.phases))),
    ],
  };
}

/** What the prediction rests on, in sentences. */
function assumptions({ card }: Prediction): string[] {
  const compiler = compilerOf(card.info);
  const shares = compiler === 'software' ? [] : Object.entries(multiplyAddShares[compiler]);
  const mix = shares.map(([loop, share]) => `${loop} ${percent(share)}`);
  const matrices = card.matrixGflops
    ? `Matrix units (${digits(card.matrixGflops / 1000)} TFLOP/s by instructions of a subgroup) reach ${percent(MATRIX_SHARE)}, two products for bf16 weights, where the built-in choice takes them.`
    : 'Products use no matrix units.';
  return [
    'Arithmetic, not a measurement. A kernel takes the longer of its operations and its bytes (each operand once), plus a dispatch; what a layer consists of is added up.',
    `Data sheet: ${digits(card.f32Gflops / 1000)} TFLOP/s of f32 multiply-adds, ${digits(card.memoryGigabytes)} GB/s. Assumed: ${card.uploadGigabytes} GB/s to the device, 1 GB/s of the disk, ${card.dispatchMicroseconds} us a dispatch, ${card.roundTripMicroseconds} us a round trip.`,
    `Multiply-adds among the instructions of the hot loops, as ${compiler === 'amd' ? 'RADV' : 'NVK'} compiles them: ${mix.join(', ')}; ${percent(ISSUED)} of the instructions are issued on time, and ${percent(MEMORY_SHARE)} of the memory's rate is reached (both assumed).`,
    matrices,
    'Phases of the prune: operations as planned, all at the rate of a layer; reading texts is left out.',
  ];
}

export const predictionText = (result: Prediction): BenchText => ({
  description: 'by arithmetic, from the data sheet and the compiled hot loops',
  tables: [modelsTable(result)],
  remarks: assumptions(result),
});
