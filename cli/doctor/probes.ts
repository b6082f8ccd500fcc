import { RmError } from '../../engine/errors.js';
import { reasonOf } from '../../engine/reasons.js';
import { withoutCredentials } from '../../engine/withoutCredentials.js';
import { deviceProbes } from './deviceProbes.js';
import { beforeDevice, besidesDevice } from './machineProbes.js';
import { type DoctorContext, type Finding, fail, type Probe, type State } from './probe.js';

export const probes: readonly Probe[] = [...beforeDevice, ...deviceProbes, ...besidesDevice];

/** A text as people may paste it into a report: with the home folder written as ~, and no secret of a URL. */
const toBePasted = (text: string, home: string): string =>
  withoutCredentials(home.length > 1 ? text.replaceAll(home, '~') : text);

/** Runs all probes in order; a probe that throws has failed. */
export async function examine(context: DoctorContext): Promise<Finding[]> {
  const state: State = { binaryLoads: false };
  const findings: Finding[] = [];
  try {
    for (const { id, run } of probes) {
      try {
        findings.push({ id, ...(await run(context, state)) });
      } catch (error) {
        const cure =
          error instanceof RmError
            ? error.fix
            : 'Please report this with the output of: rm-engine doctor --json';
        findings.push({ id, ...fail(reasonOf(error), cure) });
      }
    }
  } finally {
    await state.device?.close();
  }
  return findings.map(finding => ({
    ...finding,
    evidence: toBePasted(finding.evidence, context.home),
    ...(finding.cure && { cure: toBePasted(finding.cure, context.home) }),
  }));
}
