import { checkArguments, ensure, listOf, record, whole } from '../../engine/index.js';

/** Window (layer, count): layer `layer` stays and is patched, layers layer+1 .. layer+count are removed. 0-based. */
export interface Window {
  readonly layer: number;
  readonly count: number;
}

/** The last removed layer, whose output the patched layer should reproduce. */
export const lastRemoved = ({ layer, count }: Window): number => layer + count;

/** Whether the first window begins in the first third of the layers: many layers follow it that healing can refit. */
export const isEarly = (windows: readonly Window[], layers: number): boolean =>
  windows[0]!.layer < layers / 3;

/** The form of a `Window`. */
export const aWindow = record({ layer: whole(-1), count: whole() });

const windowsOfModel = { windows: listOf(aWindow), layers: whole(1, 2 ** 20) };

/** Indices of the layers that stay, ascending. */
export function keptLayers(windows: readonly Window[], layers: number): number[] {
  checkArguments('keptLayers', { windows, layers }, windowsOfModel);
  const removed = new Set(removedLayers(windows));
  return Array.from({ length: layers }, (_, layer) => layer).filter(layer => !removed.has(layer));
}

/** Indices of the removed layers, ascending. */
export const removedLayers = (windows: readonly Window[]): number[] =>
  windows
    .flatMap(({ layer, count }) => Array.from({ length: count }, (_, i) => layer + 1 + i))
    .sort((a, b) => a - b);

/** The windows that remove exactly these layers; adjacent ones merge. Removing the first layer gives `layer` -1. */
export function windowsOf(removed: readonly number[]): Window[] {
  const windows: Window[] = [];
  for (const layer of [...removed].sort((a, b) => a - b)) {
    const last = windows.at(-1);
    if (last && lastRemoved(last) === layer - 1)
      windows[windows.length - 1] = { ...last, count: last.count + 1 };
    else windows.push({ layer: layer - 1, count: 1 });
  }
  return windows;
}

const describeRemoved = ({ layer, count }: Window): string =>
  `${layer < 0 ? '' : `keep ${layer}, `}remove ${count === 1 ? layer + 1 : `${layer + 1}..${layer + count}`}`;

/** "keep 11, remove 12..18 (7 of 30 layers)"; several windows are separated by "; ". */
export function describeWindows(windows: readonly Window[], layers: number): string {
  checkArguments('describeWindows', { windows, layers }, windowsOfModel);
  const count = windows.reduce((sum, window) => sum + window.count, 0);
  return `${windows.map(describeRemoved).join('; ')} (${count} of ${layers} layers)`;
}

/** The number of layers that `layers` or `ratio` asks for. @throws RmError INVALID_ARGUMENT when out of range. */
export function layersToRemove(options: { layers?: number; ratio?: number }, total: number): number {
  ensure(
    (options.layers === undefined) !== (options.ratio === undefined),
    'the number of layers to remove is not given, or given twice',
    'Give either `layers: N` or `ratio: R` (for example `ratio: 0.25`).',
  );
  const count = options.layers ?? Math.round(options.ratio! * total);
  ensure(
    total > 1,
    'the model has a single layer, which cannot be removed',
    'Choose a model with more layers.',
  );
  ensure(
    Number.isInteger(count) && count >= 1 && count <= total - 1,
    `cannot remove ${count} of ${total} layers${options.ratio === undefined ? '' : ` (ratio ${options.ratio})`}`,
    `Remove between 1 and ${total - 1} layers.`,
  );
  return count;
}

/** @throws RmError INVALID_ARGUMENT unless the window lies inside the model. */
export function checkWindow(window: Window, layers: number): void {
  ensure(
    Number.isInteger(window.layer) && window.layer >= 0 && lastRemoved(window) < layers,
    `window ${window.layer} with ${window.count} layers does not fit a model of ${layers} layers`,
    `Choose \`window\` between 0 and ${layers - 1 - window.count}: the layer that stays, before the removed ones.`,
  );
}

/** The windows that remove these layers. @throws RmError INVALID_ARGUMENT unless they are some of the model's layers. */
export function checkRemoved(removed: readonly number[], layers: number): Window[] {
  for (const [i, layer] of removed.entries()) {
    ensure(
      Number.isInteger(layer) && layer >= 0 && layer < layers,
      `there is no layer ${layer} in a model of ${layers} layers`,
      `Layers are counted from 0 to ${layers - 1}.`,
    );
    ensure(removed.indexOf(layer) === i, `layer ${layer} is removed twice`, 'Name every layer once.');
  }
  ensure(
    removed.length >= 1 && removed.length < layers,
    `cannot remove ${removed.length} of ${layers} layers`,
    `Remove between 1 and ${layers - 1} layers.`,
  );
  return windowsOf(removed);
}
