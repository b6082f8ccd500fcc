import type { Device } from '../../engine/index.js';
import { modelFingerprint, readArchitecture } from '../../model/index.js';
import { packageVersion } from '../run/packageVersion.js';
import type { PhaseClock } from '../run/phaseClock.js';
import { REPORT_SCHEMA, type ReportHead, type ReportModel } from './schema/schema.js';

/** The part of a report about the run itself; call it at the end of the run. */
export async function reportHead(
  device: Device,
  clock: PhaseClock,
): Promise<
  Pick<
    ReportHead,
    'schema' | 'version' | 'node' | 'date' | 'adapter' | 'phases' | 'peakMemoryBytes' | 'seconds'
  >
> {
  return {
    schema: REPORT_SCHEMA,
    version: await packageVersion(),
    node: process.version,
    date: new Date().toISOString(),
    adapter: device.info,
    phases: clock.phases,
    // The phases include the earlier processes of a resumed run.
    peakMemoryBytes: Math.max(device.memory.peakBytes, ...clock.phases.map(({ peakBytes }) => peakBytes)),
    seconds: clock.seconds,
  };
}

/** The model at `path`, as reports name it. */
export async function reportModel(path: string): Promise<ReportModel> {
  const { layers, vision } = await readArchitecture(path);
  return { path, fingerprint: await modelFingerprint(path), layers, ...(vision && { images: true }) };
}

/** Warnings about the device's arithmetic. */
export const exactnessWarnings = ({ programs }: Device): string[] =>
  programs.exact === 'integer'
    ? [
        'the graphics driver changes float arithmetic that must be exact, so it was done in integers, which took longer',
      ]
    : [];
