import { Command, Option } from 'commander';
import { benchCommand } from './bench/index.js';
import { chatCommand } from './chat/command.js';
import { compareCommand } from './compare.js';
import { completionCommand } from './completion/command.js';
import { convertCommand } from './convert.js';
import { doctorCommand } from './doctor/command.js';
import { evalCommand } from './eval/command.js';
import { generateCommand } from './generate.js';
import { healCommand } from './heal.js';
import { inspectCommand } from './inspect.js';
import { logitsCommand } from './logits.js';
import { methodsCommand } from './methods.js';
import { byteCount } from './options/optionTypes.js';
import { profileCommand } from './profile.js';
import { pruneCommand } from './prune/command.js';
import { slurmCommand } from './slurm/index.js';
import { statsCommand } from './stats.js';
import { fullName } from './terminal/command.js';
import { WrongCommandLine } from './terminal/failure.js';
import { version } from './terminal/version.js';
import { tuneCommand } from './tune.js';

const closing = `
Results go to stdout, everything else to stderr. With --json, stdout holds exactly one object (chat: one
per turn and line); of a failure it is {"error": {"code", "message", "where", "fix"}}.
Exit codes: 0 done, 1 failed, 2 wrong command line, 130 interrupted.
Environment: RM_ENGINE_ADAPTER (as --adapter), RM_ENGINE_DEBUG=1 (stack of an error), NO_COLOR, FORCE_COLOR;
of models by name: HF_HUB_CACHE, HF_HOME; with --download: HF_ENDPOINT, HF_TOKEN.

Examples:
  $ rm-engine doctor
  $ rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --calib chat.jsonl
  $ rm-engine eval ./pruned wikitext.txt --against ./SmolLM2-135M-Instruct
  $ rm-engine generate ./pruned "The moon is" --max-tokens 40
`;

/** All commands. `signal` is aborted by Ctrl-C. Failures of parsing are thrown as CommanderError. */
export function createProgram(signal: AbortSignal): Command {
  const program = new Command('rm-engine')
    .description('Prunes layers of language models with ReplaceMe, on WebGPU, without training.')
    .version(version(), '--version', 'print the version')
    .option('--adapter <name>', 'part of the name of the GPU to use (see: rm-engine doctor)')
    .option('--memory-limit <bytes>', 'most device memory to use, such as 600MB or 2GiB', byteCount)
    .addOption(new Option('--quiet', 'neither progress nor notes on stderr').conflicts('verbose'))
    .option('--verbose', 'details on stderr, and the stack of an error')
    .helpOption('-h, --help', 'show this help')
    .addHelpText('after', closing);
  const commands = [
    pruneCommand(signal),
    healCommand(signal),
    statsCommand(signal),
    slurmCommand(signal),
    convertCommand(signal),
    compareCommand(signal),
    methodsCommand(signal),
    profileCommand(signal),
    evalCommand(signal),
    generateCommand(signal),
    chatCommand(signal),
    logitsCommand(signal),
    inspectCommand(signal),
    doctorCommand(signal),
    benchCommand(signal),
    tuneCommand(signal),
    completionCommand(signal),
  ];
  for (const command of commands) program.addCommand(command);
  prepare(program);
  return program;
}

/** What addCommand does not hand down. */
function prepare(command: Command): void {
  command.exitOverride(error => {
    throw new WrongCommandLine(fullName(command), error);
  });
  // What commander would say of an error, failure.ts says in its three lines.
  command.configureOutput({ outputError: () => {} }).helpCommand(false);
  command.configureHelp({ showGlobalOptions: true, helpWidth: 100 });
  command.helpOption('-h, --help', 'show this help').allowExcessArguments(false);
  for (const child of command.commands) prepare(child);
}
