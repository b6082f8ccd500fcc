// The blocks of docs/engine.md are one program: it runs, and prints what the page says. Costs 3 s.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mustRun, root } from './packed.js';

test('every block runs and prints what is written beside it', async () => {
  const page = readFileSync(join(root, 'docs', 'engine.md'), 'utf8');
  const program = [...page.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, block]) => block!).join('');
  assert.is(page.match(/^```./gm)!.length, page.match(/^```js$/gm)!.length, 'blocks of JavaScript alone');
  const printed = [...program.matchAll(/\/\/=> (.*)$/gm)].map(([, text]) => text!);
  // In the checkout, so that the package's name is found.
  const file = join(root, 'dist', 'test', 'engineGuide.mjs');
  writeFileSync(file, program);
  const said = await mustRun(root, process.execPath, [file]);
  assert.equal(said.trimEnd().split('\n'), printed);
});

test.run();
