import { type Command, Option } from 'commander';
import type { DeclaredSetting } from '../../replaceme/options/setting.js';
import { onOff, text, type ValueType, writeValue } from '../../replaceme/options/valueTypes.js';
import { each, parserOf } from './optionTypes.js';

/** Values of options by their names in camel case, as commander and a configuration file give them. */
export type Flags = Readonly<Record<string, unknown>>;

/** A setting that has an option. */
export type OptionSetting = DeclaredSetting & { readonly option: string };

/** Those settings that the command line has an option for. */
export const withOption = (settings: readonly DeclaredSetting[]): OptionSetting[] =>
  settings.filter((setting): setting is OptionSetting => setting.option !== undefined);

/** "sequence-length" -> "sequenceLength" */
export const camelCase = (name: string): string =>
  name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** The key of a setting's value among flags. */
export const flagKey = ({ option }: OptionSetting): string => camelCase(option);

const isSwitch = ({ type }: DeclaredSetting): boolean => type === (onOff as ValueType<unknown>);

/** The option as a user writes it: --sequence-length, --no-checkpoint. */
export const longOption = (setting: OptionSetting): string =>
  `--${isSwitch(setting) && setting.default === true ? 'no-' : ''}${setting.option}`;

/** The default as help shows it. */
export function shownDefault({ type, default: value, otherwise }: DeclaredSetting): string | undefined {
  if (otherwise !== undefined || value === undefined || typeof value === 'boolean') return otherwise;
  return typeof value === 'number' && value !== 0 && value < 1e-2
    ? value.toExponential()
    : writeValue(type, value);
}

/** A setting's line of help, with its method and its default. */
export function helpText(setting: DeclaredSetting): string {
  const value = shownDefault(setting);
  const { of, help } = setting;
  return `${of === undefined ? '' : `${of}: `}${help}${value === undefined ? '' : ` (default: ${value})`}`;
}

/** The option with its value: --calib <files...> */
export const optionSyntax = (setting: OptionSetting): string =>
  isSwitch(setting)
    ? longOption(setting)
    : `${longOption(setting)} <${setting.takes}${setting.type.item ? '...' : ''}>`;

function optionOf(setting: OptionSetting): Option {
  const { type } = setting;
  const option = new Option(optionSyntax(setting), helpText(setting)).makeOptionMandatory(
    setting.required === true,
  );
  if (isSwitch(setting)) return option;
  const single = type.item ?? type;
  // Words stay as they are: the name of a file may have a comma.
  if (single === (text as ValueType<unknown>)) return option;
  if (!type.item) return option.argParser(parserOf(type));
  return option.argParser<readonly unknown[]>(each(parserOf(type.item)));
}

/** Gives a command the options of these settings, under their headings. */
export function addSettings(command: Command, settings: readonly DeclaredSetting[]): Command {
  for (const setting of withOption(settings)) {
    command.optionsGroup(setting.group);
    command.addOption(optionOf(setting));
  }
  return command;
}

/** The flags of these settings that a user has given: commander lists a `--no-` switch that nobody has given as true. */
export const givenFlags = (settings: readonly DeclaredSetting[], flags: Flags): Flags =>
  Object.fromEntries(
    withOption(settings)
      .filter(setting => {
        const value = flags[flagKey(setting)];
        return value !== undefined && !(value === true && setting.default === true);
      })
      .map(setting => [flagKey(setting), flags[flagKey(setting)]]),
  );

/** Flags as the library takes them: by its names, those of one object together; what is not given stays out. */
export function libraryOptions(settings: readonly DeclaredSetting[], flags: Flags): object {
  const options: Record<string, unknown> = {};
  for (const setting of withOption(settings)) {
    const value = flags[flagKey(setting)];
    if (value === undefined) continue;
    let object = options;
    for (const key of setting.path.slice(0, -1)) {
      object[key] = { ...(object[key] as object | undefined) };
      object = object[key] as Record<string, unknown>;
    }
    object[setting.path.at(-1)!] = value;
  }
  return options;
}

/** The words of a command line that give these flags. */
export const optionWords = (settings: readonly DeclaredSetting[], flags: Flags): string[] =>
  withOption(settings).flatMap(setting => {
    const { type } = setting;
    const value = flags[flagKey(setting)];
    if (value === undefined) return [];
    if (isSwitch(setting)) return value === (setting.default !== true) ? [longOption(setting)] : [];
    const values =
      type.item && Array.isArray(value)
        ? value.map(item => writeValue(type.item!, item))
        : [writeValue(type, value)];
    // After a space a word with a dash would be the next option.
    const apart = values.some(word => word.startsWith('-'));
    return apart ? values.map(word => `${longOption(setting)}=${word}`) : [longOption(setting), ...values];
  });

/** This process's command line without options that concern one run alone: what another run could be given. */
export function commandWords(settings: readonly DeclaredSetting[], words = process.argv.slice(2)): string[] {
  const options = withOption(settings.filter(({ ofTheRun }) => ofTheRun));
  const switches = options.filter(isSwitch).map(longOption);
  const valued = options.filter(setting => !isSwitch(setting)).map(longOption);
  const kept = words.filter(
    (word, w) =>
      !switches.includes(word) && !valued.includes(word.split('=')[0]!) && !valued.includes(words[w - 1]!),
  );
  return ['rm-engine', ...kept];
}
