import type { Command } from 'commander';
import { calibrationSettings } from '../../replaceme/options/pruneSettings.js';
import { parserOf } from './optionTypes.js';
import { type OptionSetting, optionSyntax } from './settings.js';

/** A command line that may have --date. */
export interface DateFlag {
  date?: string;
}

const setting = calibrationSettings.date as unknown as OptionSetting;

/** Adds --date. @param otherwise its default in words. */
export const withDateOption = (command: Command, otherwise: string): Command =>
  command.option(
    optionSyntax(setting),
    `${setting.help} (default: ${otherwise})`,
    parserOf(calibrationSettings.date.type),
  );

const digits = (value: number): string => `${value}`.padStart(2, '0');

/** The present where this runs, as --date gives it. */
export function localTime(now = new Date()): string {
  const date = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map(digits).join('-');
  return `${date}T${[now.getHours(), now.getMinutes(), now.getSeconds()].map(digits).join(':')}`;
}
