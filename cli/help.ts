import { type Command, CommanderError } from 'commander';
import { didYouMean } from '../engine/nearestWord.js';
import { fullName, newCommand } from './terminal/command.js';
import { WrongCommandLine } from './terminal/failure.js';

/** `help [COMMAND...]`: the help of the program or of one of its commands, as --help prints it. */
export function helpCommand(program: Command): Command {
  return newCommand('help', {
    summary: 'show the help of a command',
    details: 'rm-engine help prune is rm-engine prune --help.',
    args: [['[command...]', 'a command, and perhaps one of its own: bench kernels']],
    examples: ['rm-engine help prune', 'rm-engine help bench kernels'],
  }).action((words: readonly string[]) => {
    const command = words.reduce(commandOf, program);
    command.outputHelp();
  });
}

function commandOf(parent: Command, word: string): Command {
  const names = parent.commands.map(command => command.name());
  const command = parent.commands.find(candidate => candidate.name() === word);
  if (command) return command;
  const meant = didYouMean(word, names).trim();
  const problem = `unknown command '${word}'${meant && `\n(${meant})`}`;
  throw new WrongCommandLine(fullName(parent), new CommanderError(2, 'commander.unknownCommand', problem));
}
