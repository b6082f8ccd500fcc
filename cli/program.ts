import { Command, Option } from 'commander';
import { benchCommand } from './bench/index.js';
import { chatCommand } from './chat/command.js';
import { compareCommand } from './compare.js';
import { completionCommand } from './completion/command.js';
import { convertCommand } from './convert.js';
import { doctorCommand } from './doctor/command.js';
import { evalCommand } from './eval/command.js';
import { generateCommand } from './generate.js';
import { gpuCheckCommand } from './gpuCheck/command.js';
import { healCommand } from './heal.js';
import { helpCommand } from './help.js';
import { inspectCommand } from './inspect.js';
import { logitsCommand } from './logits.js';
import { methodsCommand } from './methods.js';
import { byteCount } from './options/optionTypes.js';
import { profileCommand } from './profile.js';
import { pruneCommand } from './prune/command.js';
import { serveCommand } from './serve.js';
import { slurmCommand } from './slurm/command.js';
import { statsCommand } from './stats.js';
import { fullName } from './terminal/command.js';
import { WrongCommandLine } from './terminal/failure.js';
import { version } from './terminal/version.js';
import { tuneCommand } from './tune.js';

const closing = `
MODEL is a model folder, a .gguf file, or org/name[@revision] in the Hugging Face cache.
Results go to stdout, everything else to stderr. With --json, stdout holds exactly one object
(chat: one per turn, each on a line); a failure is {"error": {"code", "message", "where", "fix"}}.

Exit codes: 0 done, 1 failed, 2 wrong command line, 130 interrupted.
Numbers may have a unit: --tokens 4k is 4000 (also M, B), --memory-limit 16GB.
Environment: RM_ENGINE_ADAPTER (same as --adapter), RM_ENGINE_DEBUG=1 (print the stack of an
error), NO_COLOR, FORCE_COLOR; for models by name: HF_HUB_CACHE, HF_HOME; for --download:
HF_ENDPOINT, HF_TOKEN.

Examples:
  $ rm-engine doctor
  $ rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --calib chat.jsonl
  $ rm-engine eval ./pruned wikitext.txt --against ./SmolLM2-135M-Instruct
  $ rm-engine generate ./pruned "The moon is" --max-tokens 40
`;

/** Builds the program with all its commands. Ctrl-C aborts `signal`. Parsing throws WrongCommandLine. */
export function createProgram(signal: AbortSignal): Command {
  const program = new Command('rm-engine')
    .description(
      'Makes language models smaller by removing transformer layers: ReplaceMe and other methods, on any GPU ' +
        '(WebGPU), without training.',
    )
    .version(version(), '-V, --version', 'print the version (also: rm-engine -v)')
    .option('--adapter <name>', 'GPU to use, by part of its name (see: rm-engine doctor)')
    .option('--memory-limit <bytes>', 'use at most this much device memory, such as 600MB or 2GiB', byteCount)
    .addOption(new Option('--quiet', 'print no progress and no notes on stderr').conflicts('verbose'))
    .option('-v, --verbose', 'print details on stderr, and the stack of an error')
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
    serveCommand(signal),
    logitsCommand(signal),
    inspectCommand(signal),
    doctorCommand(signal),
    gpuCheckCommand(signal),
    benchCommand(signal),
    tuneCommand(signal),
    completionCommand(signal),
  ];
  for (const command of [...commands, helpCommand(program)]) program.addCommand(command);
  prepare(program);
  return program;
}

/** Applies the settings that addCommand does not pass on to subcommands. */
function prepare(command: Command): void {
  command.exitOverride(error => {
    throw new WrongCommandLine(fullName(command), error);
  });
  // failure.ts prints errors, in three lines; commander must not.
  command.configureOutput({ outputError: () => {} }).helpCommand(false);
  command.configureHelp({ showGlobalOptions: true, helpWidth: 100 });
  command.helpOption('-h, --help', 'show this help').allowExcessArguments(false);
  for (const child of command.commands) prepare(child);
}
