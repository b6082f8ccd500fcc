import { methods } from '../replaceme/index.js';
import { healSettings } from '../replaceme/options/healSettings.js';
import {
  calibrationSettings,
  cosineSettings,
  deviceSettings,
  faithfulSettings,
  healingParts,
  methodSettings,
  pruneSettings,
  reportSettings,
  resultSettings,
} from '../replaceme/options/pruneSettings.js';
import { type DeclaredSetting, listed } from '../replaceme/options/setting.js';
import { objectiveSettings, trainingSettings } from '../replaceme/options/trainingSettings.js';
import { camelCase, optionSyntax, shownDefault, withOption } from './options/settings.js';
import { commandSettings } from './prune/options.js';

/** The text of docs/options.md and the generated parts of docs/report.schema.json: `npm run docs:options` writes them. */

const meaning = ({ help, details }: DeclaredSetting): string =>
  details === undefined ? help : `${help}. ${details}`;

/** The default, or undefined; switches are off where nothing else is said. */
const defaultOf = (setting: DeclaredSetting): string | undefined =>
  typeof setting.default === 'boolean' ? `${setting.default}` : shownDefault(setting);

const readersOf = (setting: DeclaredSetting): string[] =>
  methods.filter(({ reads }) => reads?.includes(setting)).map(({ name }) => name);

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
const code = (text: string): string => `\`${text.replaceAll('|', '\\|')}\``;

function row(setting: DeclaredSetting): string {
  const [option] = withOption([setting]);
  const readers = readersOf(setting);
  const text = readers.length > 0 ? `${readers.join(', ')}: ${meaning(setting)}` : meaning(setting);
  const cells = [
    option ? code(optionSyntax(option)) : '',
    code(option && setting.default === true ? `${setting.name}: false` : setting.name),
    cell(setting.required ? 'required' : (defaultOf(setting) ?? '')),
    cell(text),
  ];
  return `| ${cells.join(' | ')} |\n`;
}

/** A table for every heading, in the order in which they come first. */
function tables(settings: readonly DeclaredSetting[]): string {
  const groups = [...new Set(settings.map(({ group }) => group))];
  return groups
    .map(group => {
      const rows = settings.filter(setting => setting.group === group).map(row);
      return `### ${group.replace(/:$/, '')}\n\n| option | name | default | meaning |\n| --- | --- | --- | --- |\n${rows.join('')}`;
    })
    .join('\n');
}

const optionList = (settings: readonly DeclaredSetting[]): string =>
  withOption(settings)
    .map(({ option }) => `\`--${option}\``)
    .join(', ');

/** docs/options.md */
export const optionsPage = (): string => `# Options

<!-- Written by npm run docs:options from replaceme/options/; do not edit. -->

The command line, \`--config\` files and calls of the library share these settings. A configuration file uses the name of the
option (\`sequence-length\` or \`${camelCase('sequence-length')}\`), a call of the library the name in the second column: \`cosine.epochs\`
is the field \`epochs\` of the object \`cosine\`. Settings without an option belong to the library alone.

## prune

${tables([...pruneSettings.filter(({ group }) => group !== deviceSettings.adapter.group), ...listed(commandSettings, deviceSettings)])}
\`stats gather\` and \`slurm write\` take the options under the headings up to Result, and \`--statistics\` or \`--force\` where their help
says so. \`compare\` takes ${optionList([...listed({ evaluation: reportSettings.evaluation, evaluationTokens: reportSettings.evaluationTokens }), ...compareTexts])}
for all of its rows; \`profile\` ${optionList(profileTexts)}. Every command takes ${optionList(listed(deviceSettings))}.

## heal

${tables(healSettings)}`;

const {
  calibration,
  calibrationTasks,
  weights,
  textField,
  skipInvalid,
  date,
  tokens,
  sequenceLength,
  batchTokens,
} = calibrationSettings;
const compareTexts = [
  calibration,
  calibrationTasks,
  weights,
  textField,
  skipInvalid,
  date,
  tokens,
  sequenceLength,
  batchTokens,
];
const profileTexts = [calibration, textField, skipInvalid, date, tokens, sequenceLength, batchTokens];

type JsonSchema = Readonly<Record<string, unknown>>;

const schemaOf = (setting: DeclaredSetting): JsonSchema => {
  const value = defaultOf(setting);
  const description = `${meaning(setting)}${value === undefined ? '' : ` (default: ${value})`}`;
  return { description, ...setting.type.schema };
};

/** JSON Schemas by the last part of the settings' names, in the order of the alphabet. */
const schemas = (
  settings: readonly DeclaredSetting[],
  more: Readonly<Record<string, JsonSchema>> = {},
): Record<string, JsonSchema> => {
  const entries = settings.map(setting => [setting.path.at(-1)!, schemaOf(setting)] as const);
  return Object.fromEntries([...entries, ...Object.entries(more)].sort(([a], [b]) => (a < b ? -1 : 1)));
};

/** The settings in a report's recipe, by the definitions of docs/report.schema.json that have them. */
export const recipeSchemas = (): Readonly<
  Record<'PruneReport' | 'HealReport', Record<string, JsonSchema>>
> => ({
  PruneReport: schemas(
    [
      ...listed(methodSettings, faithfulSettings),
      ...[
        calibrationSettings.mask,
        calibrationSettings.generate,
        calibrationSettings.seed,
        date,
        tokens,
        sequenceLength,
        batchTokens,
      ],
      resultSettings.dtype,
    ],
    {
      cosine: {
        description: "ReplaceMe's cosine fit.",
        type: 'object',
        additionalProperties: false,
        properties: schemas(listed(cosineSettings)),
      },
      heal: {
        description: `Closed-form healing: ${meaning(healingParts.closedForm)}`,
        ...healingParts.closedForm.type.schema,
      },
      unprunedInputs: {
        description:
          'Every window was fitted on the activations of the unpruned model, as by the original program.',
        type: 'boolean',
      },
    },
  ),
  HealReport: schemas(
    healSettings.filter(({ path: [name] }) => name !== undefined && healRecipe.includes(name)),
  ),
});

/** What of the settings of heal a recipe has. */
const healRecipe = [
  ...listed(objectiveSettings, trainingSettings).map(({ name }) => name),
  ...['checkpointEvery', 'tokens', 'sequenceLength', 'heldOutTokens', 'date'],
];
