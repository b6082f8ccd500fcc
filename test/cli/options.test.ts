import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addSettings,
  commandWords,
  flagKey,
  givenFlags,
  libraryOptions,
  optionWords,
  withOption,
} from '../../cli/options/settings.js';
import { optionsPage, recipeSchemas } from '../../cli/optionsReference.js';
import { createProgram } from '../../cli/program.js';
import { mapPruneConfig } from '../../cli/prune/configFile.js';
import { configSettings } from '../../cli/prune/options.js';
import { onCommandLine } from '../../cli/terminal/failure.js';
import { methods } from '../../replaceme/index.js';
import { healSettings } from '../../replaceme/options/healSettings.js';
import { cosineSettings, methodSettings, pruneSettings } from '../../replaceme/options/pruneSettings.js';
import { checkValues, declare, listed, setting } from '../../replaceme/options/setting.js';
import { listOf, notNegative, onOff, positive } from '../../replaceme/options/valueTypes.js';
import { rejectsWith } from '../gpu.js';
import { root } from '../packed.js';

const docs = (name: string) => readFileSync(join(root, 'docs', name), 'utf8');

test('docs/options.md and the recipes in docs/report.schema.json are up to date: npm run docs:options', () => {
  assert.is(docs('options.md'), optionsPage());
  const { $defs } = JSON.parse(docs('report.schema.json'));
  for (const [name, properties] of Object.entries(recipeSchemas())) {
    assert.equal($defs[name].properties.recipe.properties, JSON.parse(JSON.stringify(properties)), name);
  }
});

test('a setting in a table has its option, its field in a file, its check and its words', async () => {
  const table = listed(
    declare('Anything:', {
      firmness: setting(notNegative, { takes: 'factor', default: 1, help: 'how firm' }),
      quick: setting(onOff, { default: true, help: 'be slow' }),
    }),
    declare('Anything:', { parts: setting(listOf(positive), { takes: 'numbers', help: 'some' }) }, ['inner']),
  );
  const command = addSettings(new Command('x'), table)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  assert.match(command.helpInformation(), /--firmness <factor> +how firm \(default: 1\)/);
  assert.equal(givenFlags(table, command.parse([], { from: 'user' }).opts()), {});
  const words = ['--firmness', '2', '--no-quick', '--parts', '1,2', '3'];
  const flags = givenFlags(table, command.parse(words, { from: 'user' }).opts());
  assert.equal(libraryOptions(table, flags), { firmness: 2, quick: false, inner: { parts: [1, 2, 3] } });
  assert.equal(optionWords(table, flags), ['--firmness', '2', '--no-quick', '--parts', '1', '2', '3']);
  assert.throws(() => command.parse(['--firmness', '-1'], { from: 'user' }), /Give a number of 0 or more/);
  const refused = (options: object) => rejectsWith(() => checkValues(table, options), 'INVALID_ARGUMENT');
  assert.is(await refused({ firmness: -1 }), '`firmness` is -1');
  assert.is(await refused({ inner: { parts: [0] } }), '`inner.parts` is [0]');
});

test('prune, heal and --config know every setting', () => {
  const program = createProgram(new AbortController().signal);
  const optionsOf = (name: string) => [
    ...program.options,
    ...program.commands.find(command => command.name() === name)!.options,
  ];
  for (const [name, settings] of [
    ['prune', pruneSettings],
    ['heal', healSettings],
  ] as const) {
    const known = optionsOf(name).map(option => option.attributeName());
    for (const declared of withOption(settings)) assert.ok(known.includes(flagKey(declared)), declared.name);
  }
  assert.throws(() => mapPruneConfig({ unknown: 1 }, 'c.yaml'), /unknown key "unknown"/);
  for (const { option } of withOption(configSettings)) mapPruneConfig({ [option]: null }, 'c.yaml');
});

test('a setting of a method is read by the method that its table names', () => {
  for (const declared of listed(methodSettings, cosineSettings)) {
    const method = methods.find(({ name }) => name === declared.of);
    assert.ok(method?.reads?.includes(declared), declared.name);
  }
});

const sourcesIn = (folder: string): string[] =>
  readdirSync(join(root, folder), { withFileTypes: true }).flatMap(entry => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? sourcesIn(path) : /(?<!\.d)\.ts$/.test(path) ? [path] : [];
  });
const sources = ['engine', 'kernels', 'model', 'replaceme', 'bench', 'cli'].flatMap(sourcesIn);
const text = (path: string) => readFileSync(join(root, path), 'utf8');

test('a number of a method is in two source files: its table, and the fit that reads it', () => {
  assert.equal(sources.filter(path => /\bsinkWeight\b|sink-weight/.test(text(path))).sort(), [
    'replaceme/fits/refitPass.ts',
    'replaceme/options/pruneSettings.ts',
  ]);
});

test('nothing below cli/ speaks of an option of the command line', () => {
  // Whole commands to type, and other programs' options.
  const others =
    /rm-engine [a-z ]+ --json|rm-engine prune --config recipe\.yaml|llama-gguf-split --merge|hf download .*--revision|--(no-)?expose-gc|--max-old-space-size|--query-gpu/;
  // Flags of containers, and custom properties of CSS.
  const free = ['engine/presentGpus.ts', 'replaceme/report/page/style.ts'];
  const told = sources
    .filter(path => !/^(cli|bench)\//.test(path) && !free.includes(path))
    .flatMap(path =>
      text(path)
        .split('\n')
        .filter(line => /(?<!var\()--[a-z]/.test(line) && !others.test(line))
        .map(line => `${path}: ${line.trim()}`),
    );
  assert.equal(told, []);
});

test('settings that the library names are said as options', () => {
  const say = onCommandLine;
  assert.is(say('Leave out `report: none`, or `evaluation`.'), 'Leave out --report none, or --eval.');
  assert.is(say('`sequenceLength: 64` or `memoryLimit`'), '--sequence-length 64 or --memory-limit');
  assert.is(say('Use `heal.closedForm`'), 'Use --heal closed-form');
  assert.is(say('`heal.closedForm: true`, `heal.closedForm: o-proj`'), '--heal closed-form, --heal o-proj');
  assert.is(say('(`heal.gradient.train: full`)'), '(--heal full)');
  assert.is(say('a smaller `learningRate`'), 'a smaller --heal-lr');
  assert.is(say('a smaller `learningRate`', 'rm-engine heal, during x'), 'a smaller --lr');
  assert.is(say('`layers`', 'rm-engine heal'), '--layer');
  assert.is(say('a `word` of no setting'), 'a `word` of no setting');
});

test('a command line to repeat has no words that concern one run alone', () => {
  const words =
    'prune a b --layers 2 --resume --checkpoint-every 5 --no-checkpoint --checkpoint-every=9 --force';
  assert.is(
    commandWords(pruneSettings, words.split(' ')).join(' '),
    'rm-engine prune a b --layers 2 --force',
  );
});

test.run();
