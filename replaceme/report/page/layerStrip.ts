import { plural } from '../../../engine/index.js';
import { lastRemoved, type Window } from '../../run/window.js';
import type { Figure } from './figure.js';
import { listed } from './numbers.js';
import { palette } from './palette.js';
import { dataTable } from './table.js';

/** How pruning changed each layer. */
interface LayerFates {
  readonly layers: number;
  readonly windows: readonly Window[];
  /** Layers with new weights: those before a window, and others. */
  readonly patched: readonly number[];
  readonly healed: readonly number[];
}

const WIDTH = 396;

/** [0, 1, 2, 5] -> "0 to 2, 5". */
function ranges(layers: readonly number[]): string {
  const runs: number[][] = [];
  for (const layer of layers) {
    if (runs.at(-1)?.at(-1) === layer - 1) runs.at(-1)!.push(layer);
    else runs.push([layer]);
  }
  return listed(runs.map(run => (run.length === 1 ? `${run[0]}` : `${run[0]} to ${run.at(-1)}`)));
}

const { ground, ink, axis, rule, blue, green } = palette;
/** In the order of the legend: the name, and the look of the cell and its sign. */
const fates = {
  kept: { name: 'unchanged', fill: rule.light, stroke: rule.light, sign: '' },
  patched: { name: 'patched', fill: blue.light, stroke: blue.light, sign: '●' },
  healed: { name: 'healed', fill: green.light, stroke: green.light, sign: '+' },
  removed: { name: 'removed', fill: ground.light, stroke: axis.light, sign: '×' },
} as const;
type Fate = keyof typeof fates;

/** All layers in a row: unchanged, patched, healed or removed. */
export function layerStrip({ layers, windows, patched, healed }: LayerFates): Figure {
  const fateOf = (layer: number): Fate => {
    if (windows.some(window => layer > window.layer && layer <= lastRemoved(window))) return 'removed';
    if (patched.includes(layer)) return 'patched';
    return healed.includes(layer) ? 'healed' : 'kept';
  };
  const cells = Array.from({ length: layers }, (_, layer) => ({ layer, fate: fateOf(layer) }));
  const present = (Object.keys(fates) as Fate[]).filter(fate => cells.some(cell => cell.fate === fate));
  const layersWith = (fate: Fate) => cells.filter(cell => cell.fate === fate).map(({ layer }) => layer);
  const step = Math.min(28, WIDTH / layers);
  const summary = present.map(fate => `${fates[fate].name}: ${ranges(layersWith(fate))}`);
  const x = {
    ...{ field: 'layer', type: 'ordinal', scale: { paddingInner: 0.12, paddingOuter: 0 } },
    axis: { title: null, labelAngle: 0, labelOverlap: true, ticks: false, domain: false },
  };
  const scale = (channel: 'fill' | 'stroke') => ({
    ...{ field: 'name', type: 'nominal', title: null },
    scale: {
      domain: present.map(fate => fates[fate].name),
      range: present.map(fate => fates[fate][channel]),
    },
    legend: { symbolType: 'square' },
  });
  return {
    id: 'layers',
    title: `The ${layers} layers`,
    description: `${summary.join('; ')}.`,
    spec: {
      width: { step },
      height: Math.max(18, Math.min(26, step)),
      data: {
        values: cells.map(({ layer, fate }) => ({
          layer,
          name: fates[fate].name,
          sign: fates[fate].sign,
          fate,
        })),
      },
      encoding: { x },
      layer: [
        {
          mark: { type: 'rect', strokeWidth: 1 },
          encoding: { fill: scale('fill'), stroke: scale('stroke') },
        },
        {
          mark: { type: 'text', fontSize: Math.min(13, step), baseline: 'middle' },
          encoding: {
            text: { field: 'sign' },
            color: {
              condition: { test: "datum.fate === 'removed'", value: ink.light },
              value: ground.light,
            },
          },
        },
      ],
    },
    table: dataTable({
      id: 'layers-numbers',
      caption: 'How each layer changed, counted from 0',
      columns: [{ title: 'Layers' }, { title: 'Count', numeric: true }, { title: 'Which' }],
      groups: [
        {
          rows: present.map(fate => [
            ...[fates[fate].name, plural(layersWith(fate).length, 'layer'), ranges(layersWith(fate))],
          ]),
        },
      ],
    }),
  };
}
