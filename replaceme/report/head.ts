import type { Device } from '../../engine/index.js';
import type { PhaseClock } from '../run/phaseClock.js';
import { packageVersion } from './modelCard.js';
import { REPORT_SCHEMA, type ReportHead } from './schema/schema.js';

/** What a report says of the run itself, taken at its end. */
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
    // Of processes before this one the phases know.
    peakMemoryBytes: Math.max(device.memory.peakBytes, ...clock.phases.map(({ peakBytes }) => peakBytes)),
    seconds: clock.seconds,
  };
}

/** What a user should know of how a device computes. */
export const exactnessWarnings = ({ programs }: Device): string[] =>
  programs.exact === 'integer'
    ? [
        'the graphics driver changes float arithmetic that must be exact, so integers did it, which took longer',
      ]
    : [];
