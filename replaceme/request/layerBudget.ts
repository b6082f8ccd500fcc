import { ensure, RmError } from '../../engine/index.js';
import { type Architecture, expectedTensors, openCheckpoint, writtenBytes } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';

/** How much a pruned model may differ from the original on held-out text: KL in nats, or the share of equal next tokens. */
export type DamageBudget = { readonly maxKl: number } | { readonly keepTop1: number };

const sizes = ['targetBytes', 'targetParameters'] as const;
const damages = ['maxKl', 'keepTop1'] as const;

/** The options that allow as many layers to go as a budget permits. */
const givenBudgets = (options: PruneOptions): string[] =>
  [...damages, ...sizes].filter(name => options[name] !== undefined);

/**
 * Whether a budget, not a number, says how many layers go.
 *
 * @throws RmError INVALID_ARGUMENT where that is said twice.
 */
export function hasBudget(options: PruneOptions): boolean {
  const [budget, ...more] = givenBudgets(options);
  if (budget === undefined) return false;
  const others = (['layers', 'ratio', 'window', 'remove'] as const).filter(
    name => options[name] !== undefined,
  );
  const [other] = [...more, ...others];
  ensure(
    other === undefined,
    `both \`${budget}\` and \`${other}\` say how many layers go`,
    'Give one of the two.',
  );
  ensure(
    options.windows === undefined && !options.apart,
    `\`${budget}\` finds the number of layers, which may not divide into a number of windows`,
    'Leave `windows` and `apart` out.',
  );
  return true;
}

/** The budget of damage, where there is one. */
export function damageBudget({ maxKl, keepTop1 }: PruneOptions): DamageBudget | undefined {
  if (maxKl !== undefined) return { maxKl };
  return keepTop1 === undefined ? undefined : { keepTop1 };
}

/** "a KL of 0.3" */
export const budgetInWords = (budget: DamageBudget): string =>
  'maxKl' in budget ? `a KL of ${budget.maxKl}` : `a top-1 agreement of ${budget.keepTop1}`;

/**
 * The fewest layers whose removal makes the model as small as `targetBytes` or `targetParameters` says.
 *
 * @throws RmError INVALID_ARGUMENT where no number of layers does, or none need go.
 */
export async function layersForSize(
  from: string,
  options: PruneOptions,
  arch: Architecture,
): Promise<number> {
  const { targetBytes, targetParameters } = options;
  const [name, target] =
    targetBytes === undefined
      ? (['targetParameters', targetParameters!] as const)
      : (['targetBytes', targetBytes] as const);
  const layers = new Array<number>(arch.layers).fill(0);
  let whole = 0;
  const checkpoint = await openCheckpoint(from, options.dtype);
  try {
    for (const tensor of expectedTensors(arch)) {
      const parameters = tensor.shape.reduce((product, size) => product * size, 1);
      const size = targetBytes === undefined ? parameters : writtenBytes(checkpoint.info(tensor.name));
      whole += size;
      if (tensor.layer !== null) layers[tensor.layer]! += size;
    }
  } finally {
    await checkpoint.close();
  }
  const unit = targetBytes === undefined ? 'parameters' : 'bytes';
  ensure(
    whole > target,
    `the model has ${whole} ${unit} already, no more than ${target}`,
    `Give a smaller \`${name}\`.`,
  );
  // Which layers go is not known yet: even the smallest are enough.
  layers.sort((a, b) => a - b);
  let left = whole;
  for (let count = 1; count < arch.layers; count++) {
    left -= layers[count - 1]!;
    if (left <= target) return count;
  }
  throw new RmError(
    'INVALID_ARGUMENT',
    `with a single layer the model still has ${left} ${unit}, more than ${target}`,
    `Give a \`${name}\` of ${left} or more.`,
  );
}
