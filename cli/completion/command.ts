import { Argument, type Command } from 'commander';
import { newCommand, runs } from '../terminal/command.js';
import { bashScript } from './bash.js';
import { fishScript } from './fish.js';
import { completedCommand } from './tree.js';
import { zshScript } from './zsh.js';

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;

const details = `Subcommands, options, the names of methods and selections, and files. To have it in every shell:

  bash  rm-engine completion bash > ~/.local/share/bash-completion/completions/rm-engine
  zsh   rm-engine completion zsh > "\${fpath[1]}/_rm-engine"
  fish  rm-engine completion fish > ~/.config/fish/completions/rm-engine.fish

Make it again after an update of rm-engine.`;

/** `completion SHELL` */
export function completionCommand(signal: AbortSignal): Command {
  const command = newCommand('completion', {
    summary: 'print a script that lets the shell complete rm-engine',
    details,
    examples: ['source <(rm-engine completion bash)', 'rm-engine completion fish | source'],
  }).addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(scripts)));
  return runs(command, signal, async ({ terminal }, shell) => {
    const { methods, selections } = await import('../../replaceme/index.js');
    const names = (list: readonly { readonly name: string }[]) => list.map(({ name }) => name);
    const vocabulary = {
      '--method': names(methods),
      '--methods': names(methods),
      '--select': names(selections),
    };
    terminal.verbatim(scripts[shell as keyof typeof scripts](completedCommand(command.parent!, vocabulary)));
  });
}
