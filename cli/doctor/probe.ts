import type { AdapterInfo } from '../../engine/adapterInfo.js';
import type { CardMemory } from '../../engine/cardMemory.js';
import type { DeviceFeatures } from '../../engine/deviceOptions.js';
import type { GpuHost } from '../../engine/presentGpus.js';
import type { ProgramTarget } from '../../engine/program.js';
import type { Verdicts } from '../../kernels/shared/trustedVariants.js';
import type { AdapterListing } from './adapterListing.js';

export type Status = 'ok' | 'warn' | 'fail' | 'skip';

/** The result of a probe: the evidence, and for a warning or a failure what to do. */
export interface Finding {
  readonly id: string;
  readonly status: Status;
  readonly evidence: string;
  readonly cure?: string;
}

/** The parts of an open device that the probes use. */
export interface ProbedDevice {
  readonly info: AdapterInfo;
  readonly features: DeviceFeatures;
  readonly limits: Readonly<
    Record<
      | 'maxBufferSize'
      | 'maxStorageBufferBindingSize'
      | 'maxComputeInvocationsPerWorkgroup'
      | 'maxComputeWorkgroupStorageSize',
      number
    >
  >;
  /** How the device's programs do exact arithmetic. @throws RmError SELF_TEST_FAILED */
  selfTest(): Promise<ProgramTarget['exact']>;
  /** Normalised error of a small matrix product against the host. */
  multiply(): Promise<number>;
  /** The card's memory; undefined where nothing tells. */
  readonly card: CardMemory | undefined;
  /** What is known of the kernel variants here. */
  verdicts(): Promise<Verdicts | undefined>;
  close(): Promise<void>;
}

/** A machine as the probes see it; tests make up their own. */
export interface DoctorContext extends GpuHost {
  readonly arch: string;
  readonly nodeVersion: string;
  /** Advice on getting an adapter on this platform. */
  readonly advice: string;
  readonly cacheFolder: string;
  /** The user's home folder: findings write it as ~, because people paste them into reports. */
  readonly home: string;
  /** Loads the binary of the webgpu package. */
  loadBinary(): Promise<void>;
  bundledDriver(): { readonly version: string } | undefined;
  listAdapters(): Promise<AdapterListing>;
  /** Whether the webgpu package has Microsoft's new shader compiler; only asked on Windows. */
  hasNewCompiler(): boolean;
  openDevice(): Promise<ProbedDevice>;
  /** Creates the folder if needed, then writes and removes a file in it. @throws Error if that fails. */
  tryWrite(folder: string): void;
  freeMemory(): number;
}

/** One thing that doctor looks at. */
export interface Probe {
  readonly id: string;
  run(context: DoctorContext, state: State): Promise<Omit<Finding, 'id'>> | Omit<Finding, 'id'>;
}

/** Results of earlier probes that later ones need. */
export interface State {
  binaryLoads: boolean;
  adapters?: AdapterListing;
  device?: ProbedDevice;
}

export const ok = (evidence: string) => ({ status: 'ok', evidence }) as const;
export const warn = (evidence: string, cure: string) => ({ status: 'warn', evidence, cure }) as const;
export const fail = (evidence: string, cure: string) => ({ status: 'fail', evidence, cure }) as const;
export const skip = (evidence: string) => ({ status: 'skip', evidence }) as const;
