import type { Command } from 'commander';
import { shownName } from '../../replaceme/report/text/shownText.js';
import { newCommand, runs } from '../terminal/command.js';
import { styled, type Text } from '../terminal/text.js';
import { version } from '../terminal/version.js';
import type { Finding, Status } from './probe.js';

const colours = { ok: 'green', warn: 'yellow', fail: 'red', skip: 'dim' } as const;

/** One line per finding, and below it the cure if it needs one. */
export function formatFindings(findings: readonly Finding[]): Text {
  const width = Math.max(...findings.map(({ id }) => id.length));
  const count = (status: Status) => findings.filter(finding => finding.status === status).length;
  const lines = findings.map(({ id, status, evidence, cure }) => [
    styled(colours[status], status.padEnd(4)),
    `  ${id.padEnd(width)}  ${shownName(evidence)}\n`,
    cure ? `${' '.repeat(width + 8)}-> ${shownName(cure)}\n` : '',
  ]);
  const verdict =
    count('fail') > 0 ? `${count('fail')} failed: rm-engine will not work` : 'rm-engine will work here';
  const warnings = count('warn') > 0 ? `, ${count('warn')} to look at` : '';
  return [...lines, `\n${verdict}${warnings}\n`];
}

/** `doctor` */
export function doctorCommand(signal: AbortSignal): Command {
  const command = newCommand('doctor', {
    summary: 'check this machine: Node, drivers, adapters, arithmetic',
    details:
      'Every check prints ok, warn, fail or skip, the evidence, and what to do about a problem. Exit code 1 if one fails.',
    examples: ['rm-engine doctor', 'rm-engine doctor --json', 'rm-engine doctor --adapter nvidia'],
  }).option('--json', 'print one JSON object: {version, healthy, findings: [{id, status, evidence, cure}]}');
  return runs<{ json?: boolean }>(command, signal, async run => {
    const [{ examine }, { thisMachine }] = await Promise.all([import('./probes.js'), import('./context.js')]);
    const findings = await examine(thisMachine(run.deviceOptions));
    const healthy = findings.every(({ status }) => status !== 'fail');
    if (run.options.json) run.terminal.json({ version: version(), healthy, findings });
    else run.terminal.data(formatFindings(findings));
    run.exitCode = healthy ? 0 : 1;
  });
}
