// Holds the house up: what ARCHITECTURE.md says of floors, folders and functions. Reads the sources; costs 0.2 s.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { root } from './packed.js';

/** From the ground up. */
const floors = ['engine', 'kernels', 'model', 'replaceme', 'bench', 'cli'];
/** Most lines of a function in the floors that people read first. */
const LONGEST = { replaceme: 80, cli: 80 };

const sourcesIn = (folder: string): string[] =>
  readdirSync(join(root, folder), { withFileTypes: true }).flatMap(entry => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? sourcesIn(path) : /(?<!\.d)\.ts$/.test(path) ? [path] : [];
  });
const files = floors.flatMap(sourcesIn);
const textOf = new Map(files.map(file => [file, readFileSync(join(root, file), 'utf8')]));
const floorOf = (file: string): string => file.split('/')[0]!;

/** The files that each file imports, types included. */
const imports = new Map(
  [...textOf].map(([file, text]) => [
    file,
    [...text.matchAll(/(?:from |import\()'(\.[^']+)\.js'/g)]
      .map(([, path]) => `${normalize(join(dirname(file), path!)).replaceAll('\\', '/')}.ts`)
      .filter(path => textOf.has(path)),
  ]),
);
const arrows = [...imports].flatMap(([from, all]) => all.map(to => ({ from, to })));
const show = ({ from, to }: { from: string; to: string }): string => `${from} imports ${to}`;

/** A way from a node back to itself; undefined where there is none. */
function circle(graph: ReadonlyMap<string, Iterable<string>>): string | undefined {
  const done = new Set<string>();
  const visit = (node: string, way: string[]): string | undefined => {
    if (way.includes(node)) return [...way.slice(way.indexOf(node)), node].join(' -> ');
    if (done.has(node)) return undefined;
    for (const next of graph.get(node) ?? []) {
      const found = visit(next, [...way, node]);
      if (found) return found;
    }
    done.add(node);
    return undefined;
  };
  return [...graph.keys()].map(node => visit(node, [])).find(Boolean);
}

test('imports go down the floors', () => {
  const rank = (file: string) => floors.indexOf(floorOf(file));
  assert.equal(arrows.filter(({ from, to }) => rank(to) > rank(from)).map(show), []);
});

// A command loads single files, so that --help starts at once; bench/peers measures other programs in their own processes.
test('a floor enters another by its door, index.ts', () => {
  const entersElsewhere = ({ from, to }: { from: string; to: string }) =>
    floorOf(from) !== 'cli' &&
    !from.startsWith('bench/peers/') &&
    floorOf(to) !== floorOf(from) &&
    !/^\w+\/index\.ts$/.test(to);
  assert.equal(arrows.filter(entersElsewhere).map(show), []);
});

test('no files import each other in a circle', () => {
  assert.is(circle(imports), undefined);
});

test('no folders import each other in a circle', () => {
  const folders = new Map<string, Set<string>>();
  for (const { from, to } of arrows) {
    const [a, b] = [dirname(from), dirname(to)];
    if (a !== b) folders.set(a, (folders.get(a) ?? new Set()).add(b));
  }
  assert.is(circle(folders), undefined);
});

// The formatter puts the brace that ends a block below the first letter of the line that begins it.
test('no function is too long', () => {
  const long = Object.entries(LONGEST).flatMap(([floor, most]) =>
    files
      .filter(file => floorOf(file) === floor)
      .flatMap(file => {
        const lines = textOf.get(file)!.split('\n');
        return lines.flatMap((line, at) => {
          if (!/\).* \{$/.test(line)) return [];
          const end = `${/^ */.exec(line)![0]}}`;
          const length = lines.slice(at).findIndex(next => next.startsWith(end)) + 1;
          return length > most ? [`${file}:${at + 1} has ${length} lines`] : [];
        });
      }),
  );
  assert.equal(long, []);
});

test.run();
