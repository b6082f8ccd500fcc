import type { Command } from 'commander';
import { newCommand } from '../terminal/command.js';
import { kernelsCommand } from './kernels.js';
import {
  decodeCommand,
  loadCommand,
  prefillCommand,
  pruneBenchCommand,
  serveBenchCommand,
  startupCommand,
  togetherCommand,
} from './model.js';
import { peakCommand } from './peak.js';
import { predictCommand } from './predict.js';
import { scaleCommand } from './scale.js';
import { solveCommand } from './solve.js';

/** `bench kernels`, `bench peak`, ... */
export function benchCommand(signal: AbortSignal): Command {
  const bench = newCommand('bench', {
    summary: 'measure this machine',
    details: `Each command prints a table, or one object with --json. --save writes the table into a Markdown file, --baseline stores
the numbers, --compare prints them beside the stored ones. Two runs on a busy machine differ by up to 1.5 x.`,
    examples: ['rm-engine bench peak', 'rm-engine bench kernels --json', 'rm-engine bench prefill --compare'],
  });
  const commands = [
    ...[kernelsCommand, peakCommand, loadCommand, prefillCommand, decodeCommand, togetherCommand],
    serveBenchCommand,
    ...[solveCommand, pruneBenchCommand, startupCommand, scaleCommand, predictCommand],
  ];
  for (const command of commands) bench.addCommand(command(signal));
  return bench;
}
