import type { AdapterInfo } from '../../engine/adapterInfo.js';

/** What tells whether the opened adapter is the one that the user means. */
interface OpenedAmong {
  readonly info: Pick<AdapterInfo, 'kind' | 'device' | 'description' | 'vendor'>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Adapters of this name. */
  readonly alike: number;
  /** All GPUs of the machine. */
  readonly gpus: number;
  /** The PCI address of the opened card, if known. */
  readonly address?: string | undefined;
}

/** Variables by which CUDA and ROCm choose GPUs, and Vulkan does not. */
const choosers = ['CUDA_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES'];

/** Says which GPU runs where the user may expect another one. */
export function choiceWarnings({ info, env, alike, gpus, address }: OpenedAmong): string[] {
  if (info.kind === 'software') return [];
  const name = `${info.device || info.description}${address ? ` at ${address}` : ''}`;
  const variable = choosers.find(one => env[one] !== undefined && env[one] !== '');
  return [
    ...(variable && gpus > 1
      ? [
          `${variable}=${env[variable]} has no effect on WebGPU: this runs on ${name}, of ${gpus} GPUs; choose by --adapter ` +
            'NAME, in a container by --gpus device=N',
        ]
      : []),
    ...(alike > 1
      ? [
          `${alike} adapters have the name of this one: it runs on ${address ? name : `the first of them, ${name}`}`,
        ]
      : []),
  ];
}
