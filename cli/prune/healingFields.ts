import { formatNumber } from '../../engine/format.js';
import type { HealingRecord, HeldOutPoint } from '../../replaceme/index.js';

/** A number with four digits. */
export const small = (value: number): string => formatNumber(value, 4);

type Field = readonly [name: string, value: string];

/** What healing by gradient has done, for people. */
export function healingFields({
  settings,
  layers,
  parameters,
  steps,
  skipped,
  ...record
}: HealingRecord): Field[] {
  const where = layers.length > 0 ? ` of layer ${layers.join(', ')}` : '';
  const skips = skipped > 0 ? `, ${skipped} skipped` : '';
  const [first, last] = [record.heldOut[0], record.heldOut.at(-1)];
  const held = first?.kl === undefined ? 'loss' : 'KL';
  const value = (point: HeldOutPoint | undefined) => small(point?.kl ?? point?.nll ?? 0);
  return [
    ['trained', `${settings.train}${where}, ${parameters} numbers, objective ${settings.objective}`],
    ['  steps', `${steps.length} of ${settings.batchTokens} tokens at most${skips}`],
    ['  text', `${record.tokens} tokens to train on, ${record.heldOutTokens} to measure on`],
    ...(first ? [[`  held-out ${held}`, `${value(first)} -> ${value(last)} nats`] as const] : []),
  ];
}
