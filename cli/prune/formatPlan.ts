import { formatBytes, formatRate, formatSeconds } from '../../engine/format.js';
import type { PlannedPhase, PrunePlan } from '../../replaceme/index.js';
import { formatFields } from '../../replaceme/report/text/textTable.js';
import { extentInWords } from '../../replaceme/run/reportExtent.js';
import { onCommandLine } from '../terminal/failure.js';

const weightsNote: Readonly<Record<PrunePlan['placement']['weights'], string>> = {
  device: '',
  streamed: ' (layer by layer, the next one on its way)',
  'one by one': ' (layer by layer, one at a time)',
};

/** 1.5 TFLOP, 20 GFLOP. */
const formatFlops = (flops: number): string =>
  flops >= 1e12 ? `${(flops / 1e12).toPrecision(3)} TFLOP` : `${(flops / 1e9).toPrecision(3)} GFLOP`;

/** What a phase moves and computes. */
const formatPhase = ({ name, bytes, flops, seconds }: PlannedPhase): [string, string] => {
  const parts = [
    ...(bytes > 0 ? [`${name === 'write' ? 'reads and writes' : 'reads'} ${formatBytes(bytes)}`] : []),
    ...(flops > 0 ? [formatFlops(flops)] : []),
  ];
  return [`  ${name}`, [formatSeconds(seconds), ...parts].join(', ')];
};

/** What a run would do and cost, for people. */
export function formatPlan(plan: PrunePlan): string {
  const { memory, phases, placement, rates } = plan;
  const said = extentInWords(plan.report);
  return formatFields([
    ['plan', plan.summary],
    ['method', plan.method],
    ['calibration', `${plan.tokens} tokens at most, ${plan.batchTokens} at a time`],
    ['device memory', `about ${formatBytes(memory.total)}`],
    ['  weights', `${formatBytes(memory.weights)}${weightsNote[placement.weights]}`],
    ['  activations', formatBytes(memory.activations)],
    ['  statistics', formatBytes(memory.statistics)],
    ...(memory.healing === undefined ? [] : [['  healing', formatBytes(memory.healing)] as const]),
    [
      '  streams',
      placement.states.place === 'host'
        ? `hidden states of all tokens wait in host memory as ${placement.states.dtype}`
        : `${formatBytes(memory.layerInputs)} (hidden states, neurons)`,
    ],
    ...(memory.hiddenStates > 0
      ? [
          [
            '  hidden states',
            `${formatBytes(memory.hiddenStates)} before the fit, in place of the last two`,
          ] as const,
        ]
      : []),
    ...(memory.selectionSpare > 0
      ? [['  for speed', `${formatBytes(memory.selectionSpare)} while windows are selected`] as const]
      : []),
    ['host memory', `${formatBytes(memory.host + memory.staging)}, besides the program`],
    ...(memory.host > 0
      ? [['  waiting', `${formatBytes(memory.host)} (hidden states of all tokens)`] as const]
      : []),
    ['  staging', `${formatBytes(memory.staging)} (on the way to the device)`],
    ...(memory.disk > 0
      ? [
          [
            'disk',
            `${formatBytes(memory.disk)} beside the output until it is written (new weights of streamed layers)`,
          ] as const,
        ]
      : []),
    ['time', `about ${formatSeconds(phases.reduce((sum, { seconds }) => sum + seconds, 0))}`],
    ...phases.map(formatPhase),
    ...(said === undefined ? [] : [['report', onCommandLine(said)] as const]),
    ...(plan.generated > 0
      ? [['  text', `${plan.generated} tokens that the model writes one by one, not counted`] as const]
      : []),
    [
      'rates',
      `a layer ${formatRate(rates.layerGflops, 'GFLOP')}, ${rates.layerMeasured ? 'measured now' : 'assumed'}; upload ${formatRate(rates.uploadGigabytes, 'GB')}, ${rates.uploadMeasured ? 'measured by bench peak' : 'assumed (rm-engine bench peak measures it)'}; disk ${rates.diskGigabytes} GB/s, assumed${plan.corrected ? '; times corrected by an earlier run of this kind' : ''}`,
    ],
    ['adapter', plan.adapter],
    ...plan.notes.map(note => ['note', note] as const),
  ]);
}
