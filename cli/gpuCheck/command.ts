import { mkdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { type GpuCheckReport, type StepName, stepNames, verdictOf } from '../../bench/gpuCheck/report.js';
import { RmError } from '../../engine/errors.js';
import { outputError, writeOutputFile } from '../../model/files/outputError.js';
import { checkOutputFile, withOutputFile } from '../../model/files/outputFile.js';
import { textKind } from '../../model/files/outputKind.js';
import {
  addUnfinished,
  forgetUnfinished,
  removeLeftovers,
  unfinishedPath,
} from '../../model/files/unfinishedOutput.js';
import { wholeNumber } from '../options/optionTypes.js';
import { newCommand, type Run, runs } from '../terminal/command.js';

interface CheckCommandOptions {
  budget: number;
  out: string;
  steps?: StepName[];
  allowSoftware?: boolean;
  force?: boolean;
  json?: boolean;
}

const jsonKind = textKind('a result of gpu-check', /^\{\s*"format": "rm-engine gpu-check /);
const markdownKind = textKind('a result of gpu-check', /^# gpu-check\n/);
const program = fileURLToPath(new URL('../main.js', import.meta.url));

const details = `Eight steps, each a process of its own with a part of the budget: the machine; all kernels with all their variants against
the host in f64; what the GPU can do at most; kernels at sizes of 8B and 70B models; a made-up model of 1.2 billion weights;
large solves; prunes in every placement, one of them killed and resumed; stress. A crash or a hang costs one step.

After each step DIR/gpu-check.json and DIR/gpu-check.md are written anew. Send both where something is wrong. The exit code
is 1 where any result is wrong; what is slow is only told. The made-up model takes 10 GB in TMPDIR while the check runs.`;

/** `gpu-check`, `gpu-check compare A B` */
export function gpuCheckCommand(signal: AbortSignal): Command {
  const check = newCommand('gpu-check', {
    summary: 'check and measure a GPU: is it right, how fast, how much memory',
    details:
      'rm-engine gpu-check is short for gpu-check run, whose --help lists the options. docs/gpu-check.md explains the steps.',
    examples: [
      'rm-engine gpu-check',
      'rm-engine gpu-check --budget 120 --out check',
      'rm-engine gpu-check compare mine.json theirs.json',
    ],
  });
  check.addCommand(runCommand(signal), { isDefault: true });
  check.addCommand(compareCommand(signal));
  return check;
}

function runCommand(signal: AbortSignal): Command {
  const command = newCommand('gpu-check run', {
    summary: 'run the steps',
    details,
    examples: [
      'rm-engine gpu-check run --out check',
      'rm-engine gpu-check --steps environment correctness --budget 60',
      'rm-engine gpu-check --allow-software --adapter llvmpipe',
    ],
  })
    .option('--budget <seconds>', 'seconds of all steps together', wholeNumber(1), 480)
    .option('--out <dir>', 'folder for gpu-check.json and gpu-check.md', '.')
    .option('--allow-software', 'check a software adapter too, at sizes that it can bear')
    .option('--force', 'replace the files of an earlier check')
    .option('--json', 'print the report as one JSON object');
  command.addOption(command.createOption('--steps <names...>', 'only these steps').choices(stepNames));
  return runs<CheckCommandOptions>(command, signal, async run => {
    const report = await check(run);
    const { gpuCheckMarkdown } = await import('../../bench/gpuCheck/markdown.js');
    if (run.options.json) run.terminal.json(report);
    else run.terminal.data(gpuCheckMarkdown(report));
    run.terminal.note(
      `written: ${join(run.options.out, 'gpu-check.json')}, ${join(run.options.out, 'gpu-check.md')}`,
    );
    run.exitCode = verdictOf(report) === 'wrong' ? 1 : 0;
  });
}

/** Runs the steps in a temporary folder, which goes in any case, and writes the report after each. */
async function check(run: Run<CheckCommandOptions>): Promise<GpuCheckReport> {
  const { options, terminal, signal, deviceOptions } = run;
  const { budget, out, force = false, allowSoftware = false } = options;
  const [json, markdown] = [join(out, 'gpu-check.json'), join(out, 'gpu-check.md')];
  await checkOutputFile(json, jsonKind, { force });
  await checkOutputFile(markdown, markdownKind, { force });
  const [{ runSteps }, { gpuCheckMarkdown }] = await Promise.all([
    import('./runSteps.js'),
    import('../../bench/gpuCheck/markdown.js'),
  ]);
  // What an earlier step of this check wrote may be replaced.
  let replace = force;
  const write = async (report: GpuCheckReport) => {
    const texts = { [json]: `${JSON.stringify(report, null, 1)}\n`, [markdown]: gpuCheckMarkdown(report) };
    for (const [path, text] of Object.entries(texts))
      await withOutputFile(path, path === json ? jsonKind : markdownKind, { force: replace }, temporary =>
        writeOutputFile(temporary, text),
      );
    replace = true;
  };
  // Of a check that was killed a large model may be left.
  const target = join(tmpdir(), 'gpu-check');
  await removeLeftovers(target);
  const folder = unfinishedPath(target);
  await mkdir(folder).catch(error => {
    throw outputError(error, tmpdir());
  });
  addUnfinished(folder);
  try {
    const { steps } = options;
    return await runSteps({
      ...{ budget, allowSoftware, folder, signal },
      ...deviceOptions,
      // In their order, however they were named.
      steps: stepNames.filter(name => steps === undefined || steps.includes(name)),
      command: [process.execPath, program],
      onProgress: (step, at) => terminal.detail(`${step}: ${at}`),
      onReport: async report => {
        const { step, status, seconds } = report.steps.at(-1)!;
        terminal.note(`${step}: ${status}, ${seconds.toFixed(0)} s`);
        await write(report);
      },
    });
  } finally {
    await rm(folder, { recursive: true, force: true }).catch(() => {});
    forgetUnfinished(folder);
  }
}

function compareCommand(signal: AbortSignal): Command {
  const command = newCommand('gpu-check compare', {
    summary: 'the results of two machines side by side',
    args: [
      ['<file>', 'gpu-check.json of machine A'],
      ['<file>', 'gpu-check.json of machine B'],
    ],
    examples: ['rm-engine gpu-check compare mine/gpu-check.json theirs/gpu-check.json'],
  }).option('--json', 'print one JSON object');
  return runs<{ json?: boolean }>(command, signal, async (run, first, second) => {
    const { compareReports, comparisonTables } = await import('../../bench/gpuCheck/compareReports.js');
    const { formatTable } = await import('../../replaceme/report/text/textTable.js');
    const [a, b] = [await readReport(first as string), await readReport(second as string)];
    if (run.options.json) {
      const machine = ({ steps, ...rest }: GpuCheckReport) => ({
        ...rest,
        verdict: verdictOf({ steps, ...rest }),
      });
      run.terminal.json({ a: machine(a), b: machine(b), metrics: compareReports(a, b) });
      return;
    }
    run.terminal.data(
      comparisonTables(a, b)
        .map(({ columns, rows }) => formatTable(columns, rows))
        .join('\n'),
    );
  });
}

/** @throws RmError DATA_INVALID for what is no gpu-check.json. */
async function readReport(path: string): Promise<GpuCheckReport> {
  const [{ gpuCheckForm }, { readForm }, { parseJsonText }] = await Promise.all([
    import('../../bench/gpuCheck/form.js'),
    import('../../engine/form.js'),
    import('../../engine/json.js'),
  ]);
  const invalid = (problem: string, cause?: unknown) =>
    new RmError(
      'DATA_INVALID',
      `${path}: ${problem}`,
      'Name a gpu-check.json that rm-engine gpu-check has written.',
      { cause },
    );
  let parsed: unknown;
  try {
    parsed = parseJsonText(await readFile(path, 'utf8'));
  } catch (error) {
    throw invalid('cannot be read as JSON', error);
  }
  return readForm(parsed, gpuCheckForm, problem => invalid(`is no result of gpu-check: ${problem}`));
}
